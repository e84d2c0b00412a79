#include "core/config.h"

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <unordered_set>

#include "core/config_internal.h"
#include "core/error.h"
#include "core/files.h"
#include "core/json.h"

namespace reverie {
namespace {

constexpr size_t kMaxDepth = 64;

bool plain_key(std::string_view key) {
  return !key.empty() && std::all_of(key.begin(), key.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '-';
  });
}

// "line 3, column 7" of the byte that the parser read last.
std::string line_and_column(std::string_view text, size_t position) {
  const size_t end = std::min(position, text.size());
  const std::string_view before = text.substr(0, end == 0 ? 0 : end - 1);
  const auto line = 1 + std::count(before.begin(), before.end(), '\n');
  const size_t newline = before.rfind('\n');
  const size_t column =
      newline == std::string_view::npos ? before.size() + 1 : before.size() - newline;
  return fmt::format("line {}, column {}", line, column);
}

// Builds the value as nlohmann's own reader would, but refuses duplicate keys and deep nesting,
// with the JSON path.
class StrictReader : public nlohmann::json_sax<Json> {
 public:
  StrictReader(std::string_view text, std::string_view source) : text_(text), source_(source) {}
  Json root;

  bool null() override { return put(nullptr); }
  bool boolean(bool value) override { return put(value); }
  bool number_integer(number_integer_t value) override { return put(value); }
  bool number_unsigned(number_unsigned_t value) override { return put(value); }
  bool number_float(number_float_t value, const string_t&) override { return put(value); }
  bool string(string_t& value) override { return put(std::move(value)); }
  bool binary(binary_t&) override { return false; }  // no such thing in JSON text

  bool start_object(size_t) override { return open(Json::object()); }
  bool end_object() override { return close(); }
  bool start_array(size_t) override { return open(Json::array()); }
  bool end_array() override { return close(); }
  bool key(string_t& name) override {
    Level& level = levels_.back();
    if (!level.keys.insert(name).second)
      throw ConfigError(fmt::format("{}duplicate key \"{}\" at {}; keep one of the two",
                                    source_prefix(source_), name, path()));
    // The keys were checked just now; ordered_json's own insertion would search all of them again.
    auto& object = level.value->get_ref<Json::object_t&>();
    object.emplace_back(name, nullptr);
    slot_ = &object.back().second;
    return true;
  }
  bool parse_error(size_t position, const std::string&,
                   const nlohmann::detail::exception& e) override {
    std::string_view reason =
        e.what();  // "[json.exception.parse_error.101] parse error at line 1, column 2: REASON"
    if (const size_t id = reason.find("] "); id != reason.npos) reason.remove_prefix(id + 2);
    if (reason.starts_with("parse error at ")) reason.remove_prefix(reason.find(": ") + 2);
    throw ConfigError(fmt::format("{}not valid JSON at {}: {}", source_prefix(source_),
                                  line_and_column(text_, position), reason));
  }

 private:
  struct Level {
    Json* value;
    std::unordered_set<std::string> keys;
  };
  Json* place(Json&& value) {
    if (levels_.empty()) return &(root = std::move(value));
    if (levels_.back().value->is_array()) {
      levels_.back().value->push_back(std::move(value));
      return &levels_.back().value->back();
    }
    return &(*slot_ = std::move(value));
  }
  bool put(Json value) {
    place(std::move(value));
    return true;
  }
  bool open(Json value) {
    if (levels_.size() >= kMaxDepth)
      throw ConfigError(fmt::format("{}nested deeper than {} levels at {}", source_prefix(source_),
                                    kMaxDepth, path()));
    levels_.push_back({place(std::move(value)), {}});
    return true;
  }
  bool close() {
    levels_.pop_back();
    return true;
  }
  std::string path() const {
    std::string result = "$";
    for (size_t i = 0; i + 1 < levels_.size(); ++i) {
      const Json& value = *levels_[i].value;
      if (value.is_array())
        result = path_join(result, value.size() - 1);
      else
        result = path_join(result, value.get_ref<const Json::object_t&>().back().first);
    }
    return result;
  }

  std::string_view text_, source_;
  std::vector<Level> levels_;
  Json* slot_ = nullptr;
};

Json parse_strictly(std::string_view text, std::string_view source) {
  StrictReader reader(text, source);
  Json::sax_parse(text.begin(), text.end(), &reader);
  return std::move(reader.root);
}

// The text with comments, and commas before a closing bracket, turned into blanks; lines stay.
std::string without_comments(std::string_view text) {
  std::string out(text);
  const auto blank = [&](size_t begin, size_t end) {
    for (size_t i = begin; i < std::min(end, out.size()); ++i)
      if (out[i] != '\n') out[i] = ' ';
  };
  size_t comma = std::string::npos;  // the last one with nothing behind it
  for (size_t i = 0; i < out.size(); ++i) {
    const char c = out[i];
    if (c == '"') {
      for (++i; i < out.size() && out[i] != '"'; ++i)
        if (out[i] == '\\') ++i;
      comma = std::string::npos;
    } else if (out.compare(i, 2, "//") == 0) {
      blank(i, out.find('\n', i));
    } else if (out.compare(i, 2, "/*") == 0) {
      const size_t end = out.find("*/", i + 2);
      blank(i, end == std::string::npos ? end : end + 2);
    } else if (c == ',') {
      comma = i;
    } else if ((c == '}' || c == ']') && comma != std::string::npos) {
      out[comma] = ' ';
      comma = std::string::npos;
    } else if (!std::isspace(static_cast<unsigned char>(c))) {
      comma = std::string::npos;
    }
  }
  return out;
}

// The element of `array` that the path segment `name` means; one past the end appends.
Json& array_element(Json& array, const std::string& name, const std::string& path,
                    const std::string& what) {
  const bool digits =
      !name.empty() && name.size() <= 9 &&
      std::all_of(name.begin(), name.end(), [](unsigned char c) { return std::isdigit(c); });
  const size_t index = digits ? std::stoul(name) : 0;
  if (!digits || index > array.size())
    throw ConfigError(fmt::format("{}: {} is an array of {}; \"{}\" is not an index in 0..{}", what,
                                  path, array.size(), name, array.size()));
  if (index == array.size()) array.push_back(nullptr);
  return array[index];
}

void differences(const Json& before, const Json& after, const std::string& path,
                 std::vector<std::string>& out) {
  if (before.is_object() && after.is_object()) {
    for (const auto& [key, value] : before.items()) {
      const std::string where = path_join(path, key);
      if (const auto other = after.find(key); other != after.end())
        differences(value, *other, where, out);
      else
        out.push_back(fmt::format("{}: {} -> (absent)", where, show(value)));
    }
    for (const auto& [key, value] : after.items())
      if (!before.contains(key))
        out.push_back(fmt::format("{}: (absent) -> {}", path_join(path, key), show(value)));
  } else if (before != after) {
    out.push_back(fmt::format("{}: {} -> {}", path, show(before), show(after)));
  }
}

// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours cost one
// each.
size_t edit_distance(std::string_view a, std::string_view b) {
  std::vector<size_t> before_last(b.size() + 1), last(b.size() + 1), row(b.size() + 1);
  for (size_t j = 0; j <= b.size(); ++j) row[j] = j;
  for (size_t i = 1; i <= a.size(); ++i) {
    before_last.swap(last);
    last.swap(row);
    row[0] = i;
    for (size_t j = 1; j <= b.size(); ++j) {
      row[j] = std::min({last[j] + 1, row[j - 1] + 1, last[j - 1] + (a[i - 1] != b[j - 1])});
      if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
        row[j] = std::min(row[j], before_last[j - 2] + 1);
    }
  }
  return row[b.size()];
}

std::string lower(std::string_view text) {
  std::string result(text);
  for (char& c : result) c = char(std::tolower(static_cast<unsigned char>(c)));
  return result;
}

}  // namespace

std::string path_join(const std::string& path, std::string_view key) {
  return plain_key(key) ? fmt::format("{}.{}", path, key)
                        : fmt::format("{}[{}]", path, show(Json(key)));
}
std::string path_join(const std::string& path, size_t index) {
  return fmt::format("{}[{}]", path, index);
}

std::string source_prefix(std::string_view source) {
  return source.empty() ? std::string() : fmt::format("{}: ", source);
}

std::string show(const Json& value) {
  constexpr size_t kLongest = 80;
  std::string text = json_text_replacing(value);
  if (text.size() <= kLongest) return text;
  size_t end = kLongest - 3;
  while (end > 0 && (static_cast<unsigned char>(text[end]) & 0xC0) == 0x80)
    --end;  // keep UTF-8 whole
  return text.substr(0, end) + "...";
}

std::string suggestion(std::string_view word, const std::vector<std::string>& candidates,
                       std::string_view plural) {
  std::string text;
  if (const auto near = nearest_name(word, candidates))
    text = fmt::format("; did you mean \"{}\"?", *near);
  else
    text = ".";
  if (candidates.empty()) return text + fmt::format(" There are no {}.", plural);
  std::string list;
  for (const std::string& name : candidates) list += (list.empty() ? "" : ", ") + name;
  return fmt::format("{} {}{}: {}", text, char(std::toupper(static_cast<unsigned char>(plural[0]))),
                     plural.substr(1), list);
}

Config::Config() : Config(Json::object(), "$") {}
Config::Config(Json value, std::string path, std::string source)
    : value_(std::make_shared<Json>(std::move(value))),
      path_(std::move(path)),
      source_(std::move(source)) {}

Config Config::parse(std::string_view text, std::string_view source_name) {
  try {
    return Config(parse_strictly(text, source_name), "$", std::string(source_name));
  } catch (const ConfigError& e) {
    if (Json::accept(text) || !Json::accept(without_comments(text))) throw;
    throw ConfigError(fmt::format(
        "{}. Comments and commas before a closing bracket are no JSON: remove them, or give "
        "--lenient",
        e.what()));
  }
}

Config Config::from_file(const std::string& file, bool lenient) {
  try {
    const std::string text = read_file(file);
    return parse(lenient ? without_comments(text) : text, file);
  } catch (const ConfigError&) {
    throw;
  } catch (const UserError& e) {  // a config that cannot be read is a usage error
    throw ConfigError(e.what());
  }
}

bool Config::has(std::string_view key) const {
  return value_->is_object() && value_->contains(key);
}

Config Config::at(std::string_view key) const {
  if (!value_->is_object())
    throw ConfigError(fmt::format("{}{} must be an object, got {}", source_prefix(source_), path_,
                                  show(*value_)));
  const auto found = value_->find(key);
  if (found == value_->end()) {
    std::vector<std::string> keys;
    for (const auto& [name, value] : value_->items()) keys.push_back(name);
    refuse_missing_name(key, path_, keys, source_);
  }
  return Config(*found, path_join(path_, key), source_);
}

Json Config::json() && {
  return *value_;
}

void Config::set(std::string_view assignment) {
  const size_t equals = assignment.find('=');
  if (equals == std::string_view::npos || equals == 0)
    throw ConfigError(
        fmt::format("--set {}: wanted PATH=VALUE, as in --set train.steps=100", assignment));
  const std::string_view text = assignment.substr(equals + 1);
  if (text.empty())
    throw ConfigError(fmt::format(
        "--set {}: the value is empty; write null, or '\"\"' for an empty string", assignment));
  Json value =
      Json::accept(text) ? parse_strictly(text, fmt::format("--set {}", assignment)) : Json(text);
  try {
    (void)json_text(value);
  } catch (const Json::exception&) {
    throw ConfigError(
        fmt::format("--set {}: the value is not valid UTF-8", assignment.substr(0, equals)));
  }
  put(assignment.substr(0, equals), std::move(value), fmt::format("--set {}", assignment));
}

void Config::set(std::string_view path, Json value) {
  put(path, std::move(value), std::string(path));
}

void Config::put(std::string_view where, Json value, const std::string& what) {
  auto changed = std::make_shared<Json>(*value_);  // the original may be shared with copies
  Json* node = changed.get();
  std::string path = path_;
  std::string_view rest = where;
  for (size_t depth = 0;; ++depth) {
    const size_t dot = rest.find('.');
    const std::string name(rest.substr(0, dot));
    if (name.empty()) throw ConfigError(fmt::format("{}: a name in the path is empty", what));
    if (depth >= kMaxDepth)
      throw ConfigError(fmt::format("--set: the path is deeper than {} levels", kMaxDepth));
    if (node->is_null()) *node = Json::object();
    if (node->is_array()) {
      node = &array_element(*node, name, path, what);
    } else if (node->is_object()) {
      node = &(*node)[name];
    } else {
      throw ConfigError(
          fmt::format("{}: {} is {}, which holds no \"{}\"", what, path, show(*node), name));
    }
    path = path_join(path, name);
    if (dot == std::string_view::npos) break;
    rest.remove_prefix(dot + 1);
  }
  *node = std::move(value);
  value_ = std::move(changed);
}

void Config::merge(const Config& patch) {
  auto changed = std::make_shared<Json>(*value_);
  changed->merge_patch(patch.json());
  value_ = std::move(changed);
}

void refuse_missing_name(std::string_view name, const std::string& path,
                         const std::vector<std::string>& known, const std::string& source) {
  throw ConfigError(fmt::format("{}missing key \"{}\" at {}{}", source_prefix(source), name, path,
                                suggestion(name, known, "keys here")));
}

std::optional<std::string> nearest_name(std::string_view word,
                                        const std::vector<std::string>& candidates) {
  constexpr size_t kLongest =
      100;  // nobody mistypes longer names, and the distance costs a product of lengths
  const std::string wanted = lower(word);
  if (wanted.empty() || wanted.size() > kLongest) return std::nullopt;
  const size_t limit = std::max<size_t>(1, (wanted.size() + 1) / 3);
  std::optional<std::string> best;
  size_t best_distance = limit + 1;
  for (const std::string& candidate : candidates) {
    if (candidate.size() > wanted.size() + limit || candidate.size() + limit < wanted.size())
      continue;
    const size_t distance = edit_distance(wanted, lower(candidate));
    // A name that shares nothing with the word is no typo of it, however short both are.
    if (distance < best_distance && distance < std::max(wanted.size(), candidate.size())) {
      best = candidate;
      best_distance = distance;
    }
  }
  return best;
}

std::vector<std::string> config_differences(const Json& before, const Json& after) {
  std::vector<std::string> lines;
  differences(before, after, "$", lines);
  return lines;
}

}  // namespace reverie
