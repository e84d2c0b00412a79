#include "datasets/tokenizers/formats/tokenizer_config.h"

#include <charconv>
#include <filesystem>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "datasets/tokenizers/formats/pretrained_spec.h"
#include "datasets/tokenizers/pipeline/json_at.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;
using PlainJson = nlohmann::json;

constexpr int kDeepest = 32;

// The small members of a file that are looked at; null: there is no file.
Json members_of(const std::string& file, std::initializer_list<const char*> keys) {
  if (!fs::exists(file)) return nullptr;
  const PlainJson plain = parse_plain_json(file);
  Json members = Json::object();
  for (const char* key : keys)
    if (plain.is_object() && plain.contains(key)) members[key] = Json(plain[key]);
  return members;
}

std::optional<NamedToken> token_at(const JsonAt& at, const char* key) {
  auto token = at.find(key);
  if (!token) return std::nullopt;
  if (token->value().is_object()) token = token->at("content");
  return NamedToken{token->text(), token->path()};
}

int32_t id_of(const std::string& digits, const JsonAt& at) {
  int32_t id = -1;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), id);
  if (error != std::errc() || end != digits.data() + digits.size() || id < 0)
    at.fail(fmt::format("has the key \"{}\"; wanted ids", digits));
  return id;
}

void read_added(const JsonAt& by_id, std::vector<AddedToken>& added) {
  if (!by_id.value().is_object()) by_id.fail("is no object");
  for (const auto& [digits, value] : by_id.value().items()) {
    const JsonAt token(value, by_id.path() + "." + digits);
    added.push_back({.id = id_of(digits, by_id),
                     .text = token.at("content").text(),  // empty: refused with the vocabulary
                     .special = token.boolean_or("special", false),
                     .in_normalized = token.boolean_or("normalized", true),
                     .takes_left = token.boolean_or("lstrip", false),
                     .takes_right = token.boolean_or("rstrip", false)});
  }
}

}  // namespace

nlohmann::json parse_plain_json(const std::string& file) {
  const std::string text = read_file(file);
  const auto not_too_deep = [&](int depth, PlainJson::parse_event_t, PlainJson&) {
    if (depth > kDeepest) throw DataError(fmt::format("{}: nested deeper than {}", file, kDeepest));
    return true;
  };
  try {
    return PlainJson::parse(text, not_too_deep);
  } catch (const PlainJson::exception& error) {
    throw DataError(fmt::format("{} is not valid JSON: {}", file, error.what()));
  }
}

TokenizerConfig read_tokenizer_config(const std::string& folder) {
  const auto in = [&](const char* name) { return (fs::path(folder) / name).string(); };
  TokenizerConfig config;
  config.file = in("tokenizer_config.json");
  const Json own = members_of(config.file, {"bos_token", "eos_token", "add_bos_token",
                                            "add_eos_token", "added_tokens_decoder"});
  const JsonAt at(own, config.file + ":");
  if (!own.is_null()) {
    config.begin = token_at(at, "bos_token");
    config.end = token_at(at, "eos_token");
    if (const auto adds = at.find("add_bos_token")) config.adds_begin = adds->boolean();
    config.adds_end = at.boolean_or("add_eos_token", false);
    if (const auto added = at.find("added_tokens_decoder")) read_added(*added, config.added);
  }
  // A null there is the word of the file that counts: no such token.
  const std::string map_file = in("special_tokens_map.json");
  if (const Json map = members_of(map_file, {"bos_token", "eos_token"}); !map.is_null()) {
    const JsonAt special(map, map_file + ":");
    if (own.is_null() || !own.contains("bos_token")) config.begin = token_at(special, "bos_token");
    if (own.is_null() || !own.contains("eos_token")) config.end = token_at(special, "eos_token");
  }
  if (const std::string file = in("added_tokens.json"); config.added.empty() && fs::exists(file)) {
    const Json ids = Json(parse_plain_json(file));
    const JsonAt list(ids, file + ":");
    if (!ids.is_object()) list.fail("is no object");
    for (const auto& [text, id] : ids.items()) {
      const int64_t number = JsonAt(id, file + ": " + text).integer();
      if (number < 0 || number > INT32_MAX)
        list.fail(fmt::format("gives {} the id {}", text, number));
      config.added.push_back({.id = int32_t(number), .text = text, .special = true});
    }
  }
  return config;
}

void warn_of_closed_texts(const std::string& file) {
  log_warning(
      "{} asks for an end-of-text token behind every text; it is left out, because texts are "
      "continued",
      file);
}

}  // namespace reverie
