#include "datasets/text_input.h"

#include <glob.h>

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "datasets/bin_files.h"
#include "datasets/compressed.h"
#include "datasets/documents.h"
#include "datasets/utf8.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

constexpr const char* kEndings[] = {".txt", ".text", ".md", ".jsonl"};

bool is_json_lines(const std::string& file) {
  return without_compression(file).ends_with(".jsonl");
}

bool is_text_name(const std::string& file) {
  const std::string plain = without_compression(file);
  return std::any_of(std::begin(kEndings), std::end(kEndings),
                     [&](const char* ending) { return plain.ends_with(ending); });
}

std::vector<std::string> files_of_directory(const std::string& path) {
  std::vector<std::string> files, others;
  for (const auto& entry : fs::recursive_directory_iterator(path)) {
    if (!entry.is_regular_file()) continue;
    const std::string file = entry.path().string();
    if (entry.path().filename().string().starts_with('.')) continue;
    (is_text_name(file) ? files : others).push_back(file);
  }
  std::sort(files.begin(), files.end());
  std::sort(others.begin(), others.end());
  require(!files.empty(),
          "the data directory {} holds neither prepared data (dataset.json), nor token files "
          "(train.bin and val.bin), nor texts (*.txt, *.text, *.md or *.jsonl, also .gz and .zst)",
          path);
  if (!others.empty())
    log_warning("{}: {} files are texts; {} others are skipped, the first is {}", path,
                files.size(), others.size(), others.front());
  return files;
}

std::vector<std::string> files_of_pattern(const std::string& pattern) {
  glob_t found{};
  const int status = ::glob(pattern.c_str(), GLOB_ERR, nullptr, &found);
  std::vector<std::string> files;
  for (size_t i = 0; status == 0 && i < found.gl_pathc; ++i)
    if (fs::is_regular_file(found.gl_pathv[i])) files.emplace_back(found.gl_pathv[i]);
  ::globfree(&found);
  require(!files.empty(), "no file matches the data path {}", pattern);
  std::sort(files.begin(), files.end());
  return files;
}

// Part [begin, end) of the scratch file, and the file it came from.
struct Part {
  size_t begin, end, file;
};

// Writes texts one behind another and remembers where each lies.
class Spool {
 public:
  explicit Spool(const std::string& scratch) : out_(scratch) {}
  void add(std::string_view bytes) {
    out_.write(bytes.data(), bytes.size());
    size_ += bytes.size();
  }
  void end_part(size_t file) {
    parts_.push_back({begin_, size_, file});
    add("\n");
    begin_ = size_;
  }
  void commit() { out_.commit(); }
  const std::vector<Part>& parts() const { return parts_; }

 private:
  AtomicFile out_;
  size_t size_ = 0, begin_ = 0;
  std::vector<Part> parts_;
};

// The text in a line of JSON.
std::string text_of_line(std::string_view line, const std::string& field,
                         const std::string& where) {
  const auto shown_keys = [](const Json& json) {
    std::string keys;
    for (const auto& [key, value] : json.items()) {
      if (!value.is_string()) continue;
      keys += fmt::format("{}\"{}\"", keys.empty() ? "" : ", ", key);
    }
    return keys.empty() ? std::string("none") : keys;
  };
  try {
    const Json json = parse_json(line);
    if (!json.is_object()) throw DataError(fmt::format("{} is not a JSON object", where));
    if (field.empty())
      throw UserError(fmt::format(
          "{}: name the field that holds the text (field, --field); fields with text are {}", where,
          shown_keys(json)));
    const auto found = json.find(field);
    if (found == json.end() || !found->is_string())
      throw DataError(fmt::format("{} has no text in the field \"{}\"; fields with text are {}",
                                  where, field, shown_keys(json)));
    return found->get<std::string>();
  } catch (const Json::exception& error) {
    throw DataError(fmt::format("{} is no JSON: {}", where, error.what()));
  }
}

void add_lines(Spool& spool, const std::string& file, size_t index, const std::string& field) {
  std::string rest;
  int64_t number = 0;
  const auto add_line = [&](std::string_view line) {
    ++number;
    if (line.find_first_not_of(" \t\r") == line.npos) return;
    spool.add(text_of_line(line, field, fmt::format("{}, line {}", file, number)));
    spool.end_part(index);
  };
  read_decompressed(file, [&](std::string_view piece) {
    size_t end;
    while ((end = piece.find('\n')) != piece.npos) {
      if (rest.empty()) {
        add_line(piece.substr(0, end));
      } else {
        rest += piece.substr(0, end);
        add_line(rest);
        rest.clear();
      }
      piece.remove_prefix(end + 1);
    }
    rest += piece;
  });
  if (!rest.empty()) add_line(rest);
}

void check_utf8(std::string_view text, const std::string& file) {
  try {
    require_utf8(text);
  } catch (const DataError& error) {
    throw DataError(fmt::format("{}: {}", file, error.what()));
  }
}

std::string_view without_byte_order_mark(std::string_view text) {
  return text.starts_with("\xEF\xBB\xBF") ? text.substr(3) : text;
}

}  // namespace

bool is_token_directory(const std::string& path) {
  if (!fs::is_directory(path)) return false;
  for (const auto& entry : fs::directory_iterator(path)) {
    const std::string name = entry.path().filename().string();
    if (name == "dataset.json" || is_bin_file(name, "train")) return true;
  }
  return false;
}

TextFiles find_text_files(const std::string& path, bool as_text) {
  if (fs::is_directory(path)) return {files_of_directory(path), true};
  if (fs::exists(path)) return {{path}, !as_text && is_json_lines(path)};
  require(path.find_first_of("*?[") != path.npos, "the data path {} does not exist", path);
  return {files_of_pattern(path), true};
}

bool has_json_lines(const TextFiles& from) {
  return from.documents && std::any_of(from.files.begin(), from.files.end(), is_json_lines);
}

TextInput read_text_input(const TextFiles& from, const std::string& field,
                          const std::string& separator, const std::string& scratch) {
  TextInput input;
  const auto view = [&](const std::string& file) {
    input.mapping = map_file(file);
    input.text = {static_cast<const char*>(input.mapping->data()), input.mapping->bytes()};
  };
  const auto empty = [&] {
    throw DataError(fmt::format("the text {}{} is empty; there is nothing to learn from",
                                from.files.front(),
                                from.files.size() > 1 ? " and the others" : ""));
  };
  const std::string& first = from.files.front();
  if (!from.documents) {
    if (without_compression(first) == first) {
      view(first);
    } else {
      AtomicFile out(scratch);
      read_decompressed(first,
                        [&](std::string_view piece) { out.write(piece.data(), piece.size()); });
      out.commit();
      view(scratch);
      fs::remove(scratch);
    }
    if (input.text.empty()) empty();
    check_utf8(input.text, first);
    if (!separator.empty()) input.documents = split_documents(input.text, separator);
    return input;
  }
  Spool spool(scratch);
  for (size_t i = 0; i < from.files.size(); ++i) {
    const std::string& file = from.files[i];
    if (is_json_lines(file)) {
      add_lines(spool, file, i, field);
    } else {
      read_decompressed(file, [&](std::string_view piece) { spool.add(piece); });
      spool.end_part(i);
    }
  }
  spool.commit();
  view(scratch);
  fs::remove(scratch);  // the mapping keeps it
  for (const Part& part : spool.parts()) {
    std::string_view text = input.text.substr(part.begin, part.end - part.begin);
    check_utf8(text, from.files[part.file]);
    text = without_byte_order_mark(text);
    if (separator.empty()) {
      if (const auto document = without_outer_space(text); !document.empty())
        input.documents.push_back(document);
    } else {
      const auto documents = split_documents(text, separator);
      input.documents.insert(input.documents.end(), documents.begin(), documents.end());
    }
  }
  if (input.documents.empty()) empty();
  return input;
}

}  // namespace reverie
