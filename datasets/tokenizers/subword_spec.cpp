#include "datasets/tokenizers/subword_spec.h"

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace reverie {

namespace {

Json id_or_null(const std::optional<int32_t>& id) {
  return id ? Json(*id) : Json();
}

std::optional<int32_t> optional_id(const Json& json) {
  if (json.is_null()) return std::nullopt;
  return json.get<int32_t>();
}

}  // namespace

Json to_json(const SubwordSpec& spec) {
  std::vector<int32_t> merges;
  for (const Merge& merge : spec.merges)
    merges.insert(merges.end(), {merge.left, merge.right, merge.result});
  Json added = Json::array();
  for (const AddedToken& token : spec.added)
    added.push_back({{"id", token.id},
                     {"text", token.text},
                     {"special", token.special},
                     {"in_normalized", token.in_normalized},
                     {"takes_left", token.takes_left},
                     {"takes_right", token.takes_right}});
  std::string made(spec.made_by_merging.size(), '0');
  for (size_t i = 0; i < made.size(); ++i) made[i] = spec.made_by_merging[i] ? '1' : '0';
  return {{"type", "subword"},
          {"name", spec.name},
          {"tokens", spec.tokens},
          {"merges", std::move(merges)},
          {"scores", spec.scores},
          {"made_by_merging", std::move(made)},
          {"byte_fallback", spec.byte_fallback},
          {"ignore_merges", spec.ignore_merges},
          {"fuse_unknown", spec.fuse_unknown},
          {"unknown", id_or_null(spec.unknown)},
          {"added", std::move(added)},
          {"normalizer", spec.normalizer},
          {"pre_tokenizer", spec.pre_tokenizer},
          {"decoder", spec.decoder},
          {"begin_of_text", id_or_null(spec.begin_of_text)},
          {"end_of_text", id_or_null(spec.end_of_text)},
          {"adds_begin_of_text", spec.adds_begin_of_text}};
}

SubwordSpec subword_spec_from_json(const Json& json) {
  try {
    SubwordSpec spec;
    spec.name = json.at("name").get<std::string>();
    spec.tokens = json.at("tokens").get<std::vector<std::string>>();
    const auto merges = json.at("merges").get<std::vector<int32_t>>();
    if (merges.size() % 3 != 0) throw DataError("the tokenizer's merges are not whole triples");
    for (size_t i = 0; i < merges.size(); i += 3)
      spec.merges.push_back({merges[i], merges[i + 1], merges[i + 2]});
    spec.scores = json.at("scores").get<std::vector<float>>();
    for (const char c : json.at("made_by_merging").get<std::string>())
      spec.made_by_merging.push_back(c == '1');
    spec.byte_fallback = json.at("byte_fallback").get<bool>();
    spec.ignore_merges = json.at("ignore_merges").get<bool>();
    spec.fuse_unknown = json.at("fuse_unknown").get<bool>();
    spec.unknown = optional_id(json.at("unknown"));
    for (const Json& token : json.at("added"))
      spec.added.push_back({.id = token.at("id").get<int32_t>(),
                            .text = token.at("text").get<std::string>(),
                            .special = token.at("special").get<bool>(),
                            .in_normalized = token.at("in_normalized").get<bool>(),
                            .takes_left = token.at("takes_left").get<bool>(),
                            .takes_right = token.at("takes_right").get<bool>()});
    spec.normalizer = json.at("normalizer");
    spec.pre_tokenizer = json.at("pre_tokenizer");
    spec.decoder = json.at("decoder");
    spec.begin_of_text = optional_id(json.at("begin_of_text"));
    spec.end_of_text = optional_id(json.at("end_of_text"));
    spec.adds_begin_of_text = json.at("adds_begin_of_text").get<bool>();
    return spec;
  } catch (const Json::exception& error) {
    throw DataError(
        fmt::format("the tokenizer's definition was not written by Reverie: {}", error.what()));
  }
}

}  // namespace reverie
