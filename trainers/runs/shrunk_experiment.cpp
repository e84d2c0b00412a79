#include "trainers/runs/shrunk_experiment.h"

#include <algorithm>
#include <array>
#include <filesystem>
#include <initializer_list>

#include "core/dry_run.h"
#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/random.h"
#include "datasets/sources.h"
#include "datasets/text_input.h"
#include "layers/model_options.h"
#include "layers/pretrained/load.h"
#include "trainers/runs/run_reference.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

// The least that a size is divided to, where it was not less before.
struct Least {
  const char* key;
  int64_t size;
};
constexpr int64_t kBytes = 257;  // of byte pairs: the bytes and the end of a text
constexpr std::array kModelSizes = {
    Least{"n_layer", 2}, Least{"n_head", 1},       Least{"n_kv_head", 1},
    Least{"n_embd", 16}, Least{"n_hidden", 16},    Least{"head_dim", 8},
    Least{"rank", 2},    Least{"low_rank_dim", 4}, Least{"num_slots", 2},
    Least{"groups", 2},  Least{"heads", 1},        Least{"vocab_size", kBytes}};
constexpr int64_t kLeastText = 96, kLeastBatch = 2, kLeastSteps = 2;
constexpr uintmax_t kLargestText = uintmax_t(64) << 20;
constexpr const char* kGeneratedName = "generated text";

bool has_number(const Json& o, const char* key) {
  return o.contains(key) && o[key].is_number_integer();
}
void divide(Json& o, const char* key, int64_t by, int64_t least) {
  if (!has_number(o, key)) return;
  const int64_t size = o[key];
  o[key] = std::max(std::min(size, least), size / by);
}
int64_t rounded_up(int64_t size, int64_t multiple) {
  return (size + multiple - 1) / multiple * multiple;
}

// `width`: of the rows that these modules read.
void shrink_sizes(Json& o, const Shrinking& s, int64_t width) {
  if (o.is_array())
    for (Json& element : o) shrink_sizes(element, s, width);
  if (!o.is_object()) return;
  for (const Least& least : kModelSizes) divide(o, least.key, s.by, least.size);
  if (s.texts) divide(o, "block_size", s.by, kLeastText);
  const int64_t heads = has_number(o, "n_head") ? o["n_head"].get<int64_t>() : 1;
  if (has_number(o, "n_kv_head"))
    while (heads % o["n_kv_head"].get<int64_t>() != 0)
      o["n_kv_head"] = o["n_kv_head"].get<int64_t>() - 1;
  if (has_number(o, "head_dim")) o["head_dim"] = rounded_up(o["head_dim"], 2);
  // Rotary positions turn pairs.
  if (has_number(o, "n_embd")) width = o["n_embd"] = rounded_up(o["n_embd"], 2 * heads);
  if (has_number(o, "heads") && width > 0)
    while (width % (2 * o["heads"].get<int64_t>()) != 0 && o["heads"] > 1)
      o["heads"] = o["heads"].get<int64_t>() - 1;
  for (auto& [key, value] : o.items()) shrink_sizes(value, s, width);
}

void divide_steps(Json& o, int64_t by) {
  if (!o.is_object()) return;
  for (auto& [key, value] : o.items()) {
    if (std::string_view(key).ends_with("_steps") && value.is_number_integer())
      value = std::max<int64_t>(value > 0 ? 1 : 0, value.get<int64_t>() / by);
    divide_steps(value, by);
  }
}

// Documents of a few hundred characters, of words made of syllables, the first of them more often
// than the last: something to learn, the same every time.
std::string generated_text(const std::string& separator) {
  constexpr std::array kSyllables = {"ka", "to", "mi", "ren", "so", "la", "pe", "du", "ni", "va"};
  constexpr uint64_t kWords = 60;
  constexpr int kDocuments = 500, kWordsOfADocument = 80;
  Generator random(1);
  std::vector<std::string> words;
  for (uint64_t i = 0; i < kWords; ++i) {
    words.emplace_back();
    for (uint64_t n = 1 + random.below(3); n > 0; --n)
      words.back() += kSyllables[size_t(random.below(kSyllables.size()))];
  }
  std::string text;
  for (int i = 0; i < kDocuments; ++i) {
    for (int n = 0; n < kWordsOfADocument; ++n)
      text += (n == 0 ? "" : " ") + words[size_t(random.below(1 + random.below(kWords)))];
    text += "." + (separator.empty() ? "\n" : separator);
  }
  return text;
}

// Whether the text is there and small enough to be prepared in a moment.
bool has_small_text(const DataOptions& given, const std::string& config_directory) {
  DataOptions data = given;
  resolve_paths(data, config_directory);
  if (!data.path.empty() && is_token_directory(data.path)) return false;
  try {
    const std::vector<std::string> files =
        data.path.empty()
            ? std::vector{find_source_text(data.name.empty() ? "tinyshakespeare" : data.name).file}
            : find_text_files(data.path, false).files;
    uintmax_t bytes = 0;
    for (const std::string& file : files) bytes += fs::file_size(file);
    return bytes <= kLargestText;
  } catch (const UserError&) {
    return false;
  }
}

std::string short_hash(const std::string& text) {
  return hash_bytes(text.data(), text.size()).substr(0, 8);
}

bool is_inside(const std::string& path, const std::string& directory) {
  const std::string inner = fs::path(path).lexically_normal().string(),
                    outer = (fs::path(directory) / "").lexically_normal().string();
  return inner.starts_with(outer);
}

void shrink_training(Json& experiment, int64_t by) {
  Json& train = experiment["train"];
  divide(train, "steps", by, kLeastSteps);
  divide(train, "batch_size", by, kLeastBatch);
  divide(train, "micro_batches", by, 2);
  int64_t parts = train["micro_batches"];
  while (train["batch_size"].get<int64_t>() % parts != 0) --parts;
  train["micro_batches"] = parts;
  divide_steps(experiment["optimizer"], by);
  Json& evaluation = experiment["evaluation"];
  // 0 is the whole of a split.
  if (evaluation["final_windows"] == 0) evaluation["final_windows"] = evaluation["windows"];
  for (const char* key : {"windows", "final_windows", "batch_size"}) divide(evaluation, key, by, 2);
  for (const char* key : {"interval", "prefix_only_windows", "final_prefix_only_windows"})
    divide(evaluation, key, by, 1);
  divide(experiment["sample"], "interval", by, 1);
  divide(experiment["sample"], "tokens", by, 8);
  divide(experiment["checkpoint"], "interval", by, 1);
}

}  // namespace

Json shrunk_model(Json model, const Shrinking& s) {
  shrink_sizes(model, s, 0);
  return model;
}

void shrink_data(DataOptions& d, const std::string& config_directory, const Shrinking& s) {
  if (!d.mix.empty())
    throw ConfigError(
        "--shrink: $.data.mix is given, and a text made up in place of each would need their one "
        "tokenizer: wanted one text, such as --set data.mix=[] --set data.path=TEXT");
  if (d.generated.given() || d.problems.given() || d.examples.given()) return;
  if (!has_small_text(d, config_directory)) {
    d.name = kGeneratedName;
    d.path = fmt::format("{}/shrunk_text-{}.txt", s.directory, short_hash(d.document_separator));
    d.field.clear();
    d.validation_fraction = std::max(d.validation_fraction, 0.1);
    if (s.makes && !fs::exists(d.path)) {
      fs::create_directories(s.directory);
      write_file_atomically(d.path, generated_text(d.document_separator));
    }
  }
  if (d.tokenizer == "gpt2" || d.tokenizer == "pretrained") {
    d.tokenizer = "bpe";
    d.train_bpe = kBytes;
    d.tokenizer_files.clear();
    d.document_token.clear();
    d.begin_windows = false;  // learnt byte pairs have no begin-of-text token
  } else if (d.tokenizer == "bpe") {
    d.train_bpe = std::max(kBytes, d.train_bpe / s.by);
  }
  d.prepared_directory.clear();
  Json written = write_config(d);
  // Directories were named before there were mixes, and marks of examples.
  for (const char* key : {"mix", "marks"}) written.erase(key);
  for (const char* key : {"thought_steps", "mixed_stages"}) written["examples"].erase(key);
  d.prepared_directory = fmt::format("{}/tokens-{}", s.directory, short_hash(json_text(written)));
}

ShrunkExperiment shrunk_experiment(const Config& config, const std::string& config_directory,
                                   const Shrinking& s) {
  ExperimentOptions o = read_experiment_as_written(config, config_directory);
  if (o.shrunk_by == s.by) return {config, "", nullptr};
  if (o.shrunk_by != 1)
    throw ConfigError(
        fmt::format("$.shrunk_by is {}: this experiment was shrunk before, and cannot be shrunk by "
                    "{}: give the "
                    "whole experiment, or leave out --shrink",
                    o.shrunk_by, s.by));
  shrink_data(o.data, config_directory, s);
  Json all = write_config(o);
  all["shrunk_by"] = s.by;
  shrink_training(all, s.by);
  all["model"] = shrunk_model(all["model"], s);

  ShrunkExperiment shrunk;
  resolve_paths(o, config_directory);
  const auto base = configured_base(o.model);
  if (base && !is_inside(*base, s.directory)) {
    if (find_run(*base))
      throw ConfigError(
          fmt::format("--shrink: the base {} is a finished run, whose sizes cannot be divided; "
                      "shrink and train that run first, and name it here without --shrink",
                      *base));
    if (!fs::exists(*base))
      throw ConfigError(
          fmt::format("--shrink: the base {} is not there, so that its shape is not known. Wanted "
                      "the model, or "
                      "a Hugging Face directory with its config.json alone",
                      *base));
    Shrinking whole_texts = s;  // positions behind a text cost nothing, and latents need them
    whole_texts.texts = false;
    shrunk.base_shape = shrunk_model(published_shape(*base), whole_texts);
    shrunk.base = shrunk_base_path(shrunk.base_shape, s);
    for (const char* key : {"base", "path"})
      if (all["model"].contains(key)) all["model"][key] = shrunk.base;
  }
  shrunk.config = Config(std::move(all), config.path(), config.source());
  return shrunk;
}

Json published_shape(const std::string& path) {
  const DryRun dry;
  return *load_pretrained(path).component.resolved;
}

std::string shrunk_base_path(const Json& shape, const Shrinking& s) {
  return fmt::format("{}/shrunk_base-{}", s.directory, short_hash(json_text(shape)));
}

}  // namespace reverie
