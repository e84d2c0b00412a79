#include "trainers/runs/checkpoint.h"

#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <filesystem>
#include <limits>
#include <set>
#include <string_view>
#include <system_error>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

constexpr const char* kModel = "model.safetensors";
constexpr const char* kOptimizer = "optimizer.safetensors";
constexpr const char* kState = "state.json";
constexpr const char* kMemory = "memory.safetensors";
constexpr const char* kComplete = "COMPLETE";

std::string join(const std::string& directory, const std::string& name) {
  return directory + "/" + name;
}
std::string parent_of_checkpoints(const std::string& run_directory) {
  return join(run_directory.empty() ? "." : run_directory, "checkpoints");
}
std::string name_of_step(int64_t step) {
  return fmt::format("step_{:08}", step);
}
std::string aside_name(int64_t step, int64_t number) {
  return fmt::format("{}.replaced-{}", name_of_step(step), number);
}
std::string temporary_name(const std::string& name) {
  return fmt::format(".{}.tmp-{}", name, ::getpid());
}
bool is_temporary_name(std::string_view name) {
  return name.starts_with(".step_") && name.find(".tmp-") != std::string_view::npos;
}

constexpr int64_t kNotAside = std::numeric_limits<int64_t>::max();

// A directory below checkpoints/, complete or not.
struct Entry {
  int64_t step = 0, aside = kNotAside;  // the number after ".replaced-"
  std::string name, directory;
  bool complete = false;
};

std::optional<Entry> parse_name(const std::string& name) {
  Entry entry;
  const char* end = name.data() + name.size();
  if (!name.starts_with("step_")) return {};
  const auto step = std::from_chars(name.data() + 5, end, entry.step);
  if (step.ec != std::errc{} || entry.step < 0) return {};
  constexpr std::string_view aside = ".replaced-";
  if (std::string_view(step.ptr, end).starts_with(aside) &&
      std::from_chars(step.ptr + aside.size(), end, entry.aside).ec != std::errc{})
    return {};
  // Only what this program would have written, so that no two names mean the same.
  if (name !=
      (entry.aside == kNotAside ? name_of_step(entry.step) : aside_name(entry.step, entry.aside)))
    return {};
  entry.name = name;
  return entry;
}

std::vector<std::string> names_in(const std::string& directory) {
  std::vector<std::string> names;
  std::error_code error;
  fs::directory_iterator next(directory, error);
  if (error == std::errc::no_such_file_or_directory) return names;
  for (; !error && next != fs::directory_iterator(); next.increment(error))
    names.push_back(next->path().filename().string());
  if (error) throw UserError(fmt::format("cannot list {}: {}", directory, error.message()));
  return names;
}

// Oldest first: by step, and within a step what was replaced before what replaced it.
std::vector<Entry> entries_in(const std::string& parent) {
  std::vector<Entry> entries;
  for (const std::string& name : names_in(parent)) {
    if (auto entry = parse_name(name)) {
      entry->directory = join(parent, name);
      std::error_code ignored;
      entry->complete = fs::is_regular_file(join(entry->directory, kComplete), ignored);
      entries.push_back(std::move(*entry));
    }
  }
  std::sort(entries.begin(), entries.end(), [](const Entry& a, const Entry& b) {
    return std::pair(a.step, a.aside) < std::pair(b.step, b.aside);
  });
  return entries;
}

// ---- COMPLETE ----

// The manifest guards itself with a hash over the rest of it, and has one spelling only.
std::string manifest_text(Json manifest) {
  manifest["hash"] = "";
  const std::string bytes = json_text(manifest);
  manifest["hash"] = hash_bytes(bytes.data(), bytes.size());
  return json_text(manifest, 2) + "\n";
}

Json describe_file(const std::string& file) {
  return {{"bytes", fs::file_size(file)}, {"xxh3_128", hash_file(file)}};
}

std::string make_manifest(const std::string& directory) {
  Json manifest;
  for (const char* name : {kModel, kOptimizer, kState, kMemory})
    if (name != kMemory || fs::exists(join(directory, name)))
      manifest["files"][name] = describe_file(join(directory, name));
  return manifest_text(std::move(manifest));
}

Json read_manifest(const std::string& directory) {
  const std::string file = join(directory, kComplete);
  std::error_code ignored;
  require(fs::is_directory(directory, ignored), "there is no checkpoint directory {}", directory);
  if (!fs::is_regular_file(file, ignored))
    throw DataError(fmt::format(
        "{} has no file COMPLETE: it was never finished, or somebody removed it", directory));
  const std::string text = read_file(file);
  const Json manifest = parse_json_or_discard(text);
  const std::string wanted = manifest.is_object() ? manifest_text(manifest) : "";
  if (text != wanted)
    throw DataError(
        fmt::format("{} is truncated or altered: the hash of its {} bytes is {}, wanted {}", file,
                    text.size(), hash_bytes(text.data(), text.size()),
                    wanted.empty() ? "a JSON object" : hash_bytes(wanted.data(), wanted.size())));
  return manifest;
}

// Whether the checkpoint, which is as it was written, holds memory.
bool verify(const std::string& directory) {
  const Json manifest = read_manifest(directory);
  bool has_memory = false;
  for (const char* name : {kModel, kOptimizer, kState, kMemory}) {
    const std::string file = join(directory, name);
    const auto path = Json::json_pointer("/files") / name;
    if (name == kMemory) has_memory = manifest.contains(path);
    if (name == kMemory && !has_memory) continue;
    if (!manifest.contains(path))
      throw DataError(fmt::format("{}/{} does not list {}", directory, kComplete, name));
    const Json& wanted = manifest.at(path);
    std::error_code ignored;
    if (!fs::is_regular_file(file, ignored))
      throw DataError(
          fmt::format("{} is missing; {} lists it as {}", file, kComplete, json_text(wanted)));
    const Json got = describe_file(file);
    if (got != wanted)
      throw DataError(fmt::format("{} is truncated or altered: got {}, {} says {}", file,
                                  json_text(got), kComplete, json_text(wanted)));
  }
  return has_memory;
}

// ---- writing ----

std::string state_text(const Json& state) {
  std::string text;
  try {
    text = json_text(state, 2) + "\n";
  } catch (const Json::exception& error) {
    throw InternalError(fmt::format("the trainer's state is not valid JSON: {}", error.what()));
  }
  // JSON has no NaN or infinity: they would come back as null, and a resumed run would differ.
  const Json back = parse_json(text);
  if (back != state) {
    const auto differences = config_differences(state, back);
    throw InternalError(fmt::format("the trainer's state cannot be written as JSON: {}",
                                    differences.empty() ? "" : differences.front()));
  }
  return text;
}

void make_parent(const std::string& run_directory, const std::string& parent) {
  std::error_code error;
  const bool created = fs::create_directories(parent, error);
  if (error) throw MachineError(fmt::format("cannot create {}: {}", parent, error.message()));
  if (created) fsync_path(run_directory.empty() ? "." : run_directory);
}

void remove_or_warn(const std::string& directory) {
  std::error_code error;
  fs::remove_all(directory, error);
  if (error) log_warning("cannot remove {}: {}", directory, error.message());
}

// Hidden first, so that a kill in between leaves no checkpoint that is listed but has lost files.
void remove_checkpoint(const std::string& parent, const Entry& entry) {
  const std::string hidden = join(parent, temporary_name(entry.name));
  try {
    rename_durably(entry.directory, hidden);
  } catch (const MachineError& error) {
    log_warning("cannot remove the old checkpoint {}: {}", entry.directory, error.what());
    return;
  }
  remove_or_warn(hidden);
}

void remove_leftovers(const std::string& parent) {
  for (const std::string& name : names_in(parent))
    if (is_temporary_name(name)) remove_or_warn(join(parent, name));
}

// Exists until it was renamed into place, or until something went wrong.
class HiddenDirectory {
 public:
  explicit HiddenDirectory(std::string path) : path_(std::move(path)) {
    if (::mkdir(path_.c_str(), 0777) != 0)
      throw MachineError(
          fmt::format("cannot create {}: {}", path_, std::generic_category().message(errno)));
  }
  ~HiddenDirectory() {
    std::error_code ignored;
    fs::remove_all(path_, ignored);  // nothing is there once it was renamed
  }
  HiddenDirectory(const HiddenDirectory&) = delete;
  HiddenDirectory& operator=(const HiddenDirectory&) = delete;
  const std::string& path() const { return path_; }

 private:
  std::string path_;
};

void put_in_place(const std::string& from, const std::string& parent, int64_t step) {
  const std::string target = join(parent, name_of_step(step));
  std::error_code ignored;
  if (fs::exists(fs::symlink_status(target, ignored))) {
    int64_t number = 0;
    while (fs::exists(fs::symlink_status(join(parent, aside_name(step, number)), ignored)))
      ++number;
    rename_durably(target, join(parent, aside_name(step, number)));
  }
  rename_durably(from, target);
}

// Runs when `step` is durable.
void remove_old(const std::string& parent, int64_t step, int64_t keep,
                std::optional<int64_t> also_keep) {
  const std::vector<Entry> entries = entries_in(parent);
  std::set<int64_t> steps, in_place;  // those with a complete checkpoint; under their own name
  for (const Entry& entry : entries) {
    if (entry.complete && entry.step <= step) steps.insert(entry.step);
    if (entry.complete && entry.aside == kNotAside) in_place.insert(entry.step);
  }
  if (keep > 0)
    while (int64_t(steps.size()) > keep) steps.erase(steps.begin());
  if (also_keep) steps.insert(*also_keep);
  for (const Entry& entry : entries) {
    const bool too_old = entry.complete && entry.step <= step && !steps.contains(entry.step);
    const bool replaced =
        entry.aside != kNotAside && (!entry.complete || in_place.contains(entry.step));
    if (too_old || replaced) remove_checkpoint(parent, entry);
  }
}

// Calls open() for checkpoints, the newest first, until it throws no UserError.
template <class Open>
void find_newest(const std::string& run_directory, Open&& open) {
  std::vector<std::string> directories = checkpoints_of(run_directory);
  for (; !directories.empty(); directories.pop_back()) {
    try {
      return open(directories.back());
    } catch (const UserError& error) {
      log_warning("the checkpoint {} is damaged and skipped: {}", directories.back(), error.what());
    }
  }
}

std::string what_is_still_good(const std::string& run_directory) {
  try {
    if (const auto good = latest_checkpoint(run_directory))
      return fmt::format("the checkpoint {} is still good", *good);
  } catch (const Error&) {  // the first error is the one to report
  }
  return "there is no earlier checkpoint";
}

}  // namespace

std::string write_checkpoint(const std::string& run_directory, int64_t step,
                             const CheckpointContents& contents, int64_t keep,
                             std::optional<int64_t> also_keep) {
  require(step >= 0 && keep >= 0,
          "cannot write the checkpoint of step {} and keep {}: wanted two "
          "numbers that are not negative",
          step, keep);
  const std::string parent = parent_of_checkpoints(run_directory);
  const std::string target = join(parent, name_of_step(step));
  const std::string state = state_text(contents.state);
  try {
    make_parent(run_directory, parent);
    remove_leftovers(parent);
    const HiddenDirectory hidden(join(parent, temporary_name(name_of_step(step))));
    write_safetensors(join(hidden.path(), kModel), contents.model, contents.model_metadata);
    write_safetensors(join(hidden.path(), kOptimizer), contents.optimizer);
    if (!contents.memory.empty()) write_safetensors(join(hidden.path(), kMemory), contents.memory);
    write_file_atomically(join(hidden.path(), kState), state);
    write_file_atomically(join(hidden.path(), kComplete), make_manifest(hidden.path()));
    put_in_place(hidden.path(), parent, step);
  } catch (const MachineError& error) {
    throw MachineError(fmt::format("cannot write the checkpoint {}: {}; {}", target, error.what(),
                                   what_is_still_good(run_directory)));
  }
  remove_old(parent, step, keep, also_keep);
  return target;
}

void tidy_checkpoints(const std::string& run_directory, int64_t step, int64_t keep,
                      std::optional<int64_t> also_keep) {
  const std::string parent = parent_of_checkpoints(run_directory);
  remove_leftovers(parent);
  remove_old(parent, step, keep, also_keep);
}

std::vector<std::string> checkpoints_of(const std::string& run_directory) {
  std::vector<std::string> directories;
  for (const Entry& entry : entries_in(parent_of_checkpoints(run_directory)))
    if (entry.complete) directories.push_back(entry.directory);
  return directories;
}

CheckpointContents read_checkpoint(const std::string& directory) {
  const bool has_memory = verify(directory);
  SafetensorsFile model = read_safetensors(join(directory, kModel));
  CheckpointContents contents;
  contents.model = std::move(model.tensors);
  contents.model_metadata = std::move(model.metadata);
  contents.optimizer = read_safetensors(join(directory, kOptimizer)).tensors;
  if (has_memory) contents.memory = read_safetensors(join(directory, kMemory)).tensors;
  try {
    contents.state = parse_json(read_file(join(directory, kState)));
  } catch (const Json::exception& error) {
    throw DataError(fmt::format("{} is not JSON: {}", join(directory, kState), error.what()));
  }
  return contents;
}

std::optional<StoredCheckpoint> read_latest_checkpoint(const std::string& run_directory) {
  std::optional<StoredCheckpoint> newest;
  find_newest(run_directory, [&](const std::string& directory) {
    newest = StoredCheckpoint{directory, read_checkpoint(directory)};
  });
  return newest;
}

std::optional<std::string> latest_checkpoint(const std::string& run_directory) {
  std::optional<std::string> newest;
  find_newest(run_directory, [&](const std::string& directory) {
    verify(directory);
    newest = directory;
  });
  return newest;
}

std::optional<std::string> stored_model_hash(const std::string& checkpoint) {
  try {
    const Json manifest = read_manifest(checkpoint);
    const Json hash = manifest.value(Json::json_pointer("/files") / kModel / "xxh3_128", Json());
    if (hash.is_string()) return hash.get<std::string>();
  } catch (const UserError&) {  // whoever opens it says so
  }
  return std::nullopt;
}

}  // namespace reverie
