#include "datasets/tokenizers/formats/written_spec.h"

#include <algorithm>
#include <array>
#include <unordered_map>

#include "core/error.h"
#include "datasets/tokenizers/byte_alphabet.h"
#include "datasets/utf8.h"

namespace reverie {
namespace {

std::string in_byte_alphabet(std::string_view bytes) {
  std::string text;
  for (const char byte : bytes) append_code_point(text, byte_characters()[uint8_t(byte)]);
  return text;
}

SubwordSpec spec_of_gpt2(const Json& definition) {
  const auto bytes = definition.at("bytes").get<std::array<int32_t, 256>>();
  const auto flat = definition.at("merges").get<std::vector<int32_t>>();
  const auto end = definition.at("end_of_text").get<int32_t>();
  SubwordSpec spec;
  spec.name = "bpe";
  spec.tokens.resize(257 + flat.size() / 3);
  for (size_t byte = 0; byte < 256; ++byte)
    spec.tokens[size_t(bytes[byte])] = in_byte_alphabet(std::string(1, char(byte)));
  for (size_t i = 0; i + 2 < flat.size(); i += 3) {
    const Merge merge{flat[i], flat[i + 1], flat[i + 2]};
    spec.tokens[size_t(merge.result)] =
        spec.tokens[size_t(merge.left)] + spec.tokens[size_t(merge.right)];
    spec.merges.push_back(merge);
  }
  spec.tokens[size_t(end)] = "<|endoftext|>";
  spec.added.push_back({.id = end, .text = spec.tokens[size_t(end)], .special = true});
  spec.end_of_text = end;
  spec.pre_tokenizer = {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}};
  spec.decoder = {{"type", "ByteLevel"}};
  return spec;
}

}  // namespace

std::optional<SubwordSpec> spec_of(const Tokenizer& tokenizer) {
  const Json definition = tokenizer.definition();
  const std::string type = definition.at("type").get<std::string>();
  if (type == "gpt2") return spec_of_gpt2(definition);
  if (type == "subword") return subword_spec_from_json(definition);
  return std::nullopt;
}

SubwordSpec with_listed_merges(SubwordSpec spec) {
  if (spec.scores.empty()) return spec;
  std::unordered_map<std::string_view, int32_t> made;  // of equal pieces the first counts
  for (size_t id = 0; id < spec.tokens.size(); ++id)
    if (spec.made_by_merging[id]) made.emplace(spec.tokens[id], int32_t(id));
  std::vector<Merge> merges;
  for (const auto& [piece, id] : made) {
    size_t found = 0, characters = 1;
    for (size_t cut = 1; cut < piece.size(); ++cut) {
      if ((uint8_t(piece[cut]) & 0xC0u) == 0x80u) continue;
      ++characters;
      const auto left = made.find(piece.substr(0, cut)), right = made.find(piece.substr(cut));
      if (left == made.end() || right == made.end()) continue;
      merges.push_back({left->second, right->second, id});
      ++found;
    }
    // A character that is in a piece without being one takes part in merges of scores alone.
    for (size_t at = 0; characters > 1 && at < piece.size();) {
      const size_t bytes = size_t(std::max(1, decode_code_point(piece, at).bytes));
      require(made.contains(piece.substr(at, bytes)),
              "the piece '{}' contains the character '{}', which is no piece of its own, so no "
              "list of merges can make it",
              piece, piece.substr(at, bytes));
      at += bytes;
    }
  }
  std::sort(merges.begin(), merges.end(), [&](const Merge& a, const Merge& b) {
    const float of_a = spec.scores[size_t(a.result)], of_b = spec.scores[size_t(b.result)];
    if (of_a != of_b) return of_a > of_b;
    if (a.result != b.result) return a.result < b.result;
    return spec.tokens[size_t(a.left)].size() > spec.tokens[size_t(b.left)].size();
  });
  spec.merges = std::move(merges);
  spec.scores.clear();
  spec.made_by_merging.clear();
  return spec;
}

Json completed(const Json& description) {
  if (!description.is_object()) return description;
  Json out = description;
  const auto set = [&](const char* key, const Json& value) {
    if (!out.contains(key)) out[key] = value;
  };
  const std::string type = out.value("type", "");
  for (const char* list : {"pretokenizers", "decoders", "normalizers"})
    if (out.contains(list))
      for (Json& item : out[list]) item = completed(item);
  if (type == "ByteLevel") {
    set("add_prefix_space", true);
    set("trim_offsets", true);
    set("use_regex", true);
  } else if (type == "Metaspace") {
    set("replacement", "\xE2\x96\x81");
    set("prepend_scheme", out.value("add_prefix_space", true) ? "always" : "never");
    set("split", true);
    out.erase("add_prefix_space");
  } else if (type == "Split") {
    set("invert", false);
  } else if (type == "Digits") {
    set("individual_digits", false);
  }
  return out;
}

bool is_read_in_text(const SubwordSpec& spec, int32_t id) {
  return std::any_of(spec.added.begin(), spec.added.end(), [&](const AddedToken& token) {
    return token.id == id && token.text == spec.tokens[size_t(id)];
  });
}

}  // namespace reverie
