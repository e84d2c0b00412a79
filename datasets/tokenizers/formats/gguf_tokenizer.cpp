#include <algorithm>
#include <set>
#include <unordered_map>

#include "core/error.h"
#include "datasets/tokenizers/formats/pretrained_spec.h"
#include "datasets/tokenizers/pipeline/pre_tokenizer.h"

namespace reverie {

namespace {

std::optional<int32_t> id_at(const GgufFile& file, const std::string& key, size_t size) {
  if (!file.find_value(key)) return std::nullopt;
  const int64_t id = file.integer(key);
  if (id < 0 || id >= int64_t(size))
    throw DataError(fmt::format("{}: metadata \"{}\" is {}, outside the vocabulary of {}",
                                file.path, key, id, size));
  return int32_t(id);
}

std::vector<int8_t> kinds_of(const GgufFile& file, size_t size) {
  constexpr const char* key = "tokenizer.ggml.token_type";
  if (!file.find_value(key)) return std::vector<int8_t>(size, ScoredPieces::normal);
  const std::vector<int64_t> types = file.integers(key);
  if (types.size() != size)
    throw DataError(fmt::format("{}: metadata \"{}\" has {} entries for {} tokens", file.path, key,
                                types.size(), size));
  std::vector<int8_t> kinds;
  for (const int64_t type : types) kinds.push_back(int8_t(std::clamp<int64_t>(type, -1, 100)));
  return kinds;
}

// Every key of the tokenizer is read, known to change nothing here, or refused.
void check_keys(const GgufFile& file) {
  static const std::set<std::string_view> known = {
      "model", "pre", "tokens", "token_type", "scores", "merges", "bos_token_id", "eos_token_id",
      "add_bos_token", "add_space_prefix", "remove_extra_whitespaces", "add_eos_token",
      "precompiled_charsmap",
      // Roles of tokens that are no part of plain text, and llama.cpp's own id of the unknown
      // token, which the tokens' types say as well.
      "token_type_count", "unknown_token_id", "unk_token_id", "padding_token_id", "pad_token_id",
      "seperator_token_id", "separator_token_id", "cls_token_id", "mask_token_id", "eot_token_id",
      "eom_token_id", "prefix_token_id", "suffix_token_id", "middle_token_id", "fim_pre_token_id",
      "fim_suf_token_id", "fim_mid_token_id", "fim_pad_token_id", "fim_rep_token_id",
      "fim_sep_token_id", "add_sep_token"};
  constexpr std::string_view prefix = "tokenizer.ggml.";
  for (const auto& [key, value] : file.metadata)
    if (key.starts_with(prefix) && !known.contains(std::string_view(key).substr(prefix.size())))
      throw DataError(fmt::format(
          "{}: metadata \"{}\" is not known here, and might change the tokens of a text", file.path,
          key));
  if (const GgufValue* rules = file.find_value("tokenizer.ggml.precompiled_charsmap");
      rules && rules->count() > 0)
    throw DataError(fmt::format(
        "{}: metadata \"tokenizer.ggml.precompiled_charsmap\" holds normalization rules, which are "
        "not supported",
        file.path));
}

SubwordSpec scored(const GgufFile& file) {
  ScoredPieces pieces;
  pieces.pieces = file.texts("tokenizer.ggml.tokens");
  for (const double score : file.numbers("tokenizer.ggml.scores"))
    pieces.scores.push_back(float(score));
  pieces.kinds = kinds_of(file, pieces.pieces.size());
  for (size_t i = 0; i < std::min(pieces.kinds.size(), pieces.pieces.size()); ++i) {
    // A vocabulary padded beyond its model has "unused" pieces, which no text gives.
    if (pieces.kinds[i] == ScoredPieces::unused) pieces.kinds[i] = ScoredPieces::control;
    // llama.cpp's converter writes the spaces of user-defined pieces, and of no others, as spaces.
    if (pieces.kinds[i] == ScoredPieces::user_defined) {
      std::string& piece = pieces.pieces[i];
      for (size_t at = piece.find(' '); at != std::string::npos; at = piece.find(' ', at))
        piece.replace(at, 1, pieces.space);
    }
  }
  pieces.space_before_text = file.boolean("tokenizer.ggml.add_space_prefix", true);
  if (file.boolean("tokenizer.ggml.remove_extra_whitespaces", false))
    throw DataError(fmt::format(
        "{}: metadata \"tokenizer.ggml.remove_extra_whitespaces\" is true, which is not supported",
        file.path));
  return scored_spec(std::move(pieces), file.path);
}

SubwordSpec byte_level(const GgufFile& file) {
  SubwordSpec spec;
  spec.name = "bpe";
  spec.tokens = file.texts("tokenizer.ggml.tokens");
  const std::string split = file.text("tokenizer.ggml.pre");
  spec.pre_tokenizer = named_split(split);
  if (spec.pre_tokenizer.is_null())
    throw DataError(
        fmt::format("{}: metadata \"tokenizer.ggml.pre\" is '{}', a split that is not "
                    "supported; wanted gpt-2, smollm, llama-bpe or qwen2",
                    file.path, split));
  if (split == "qwen2") spec.normalizer = {{"type", "NFC"}};
  spec.ignore_merges = split == "llama-bpe";
  spec.decoder = {{"type", "ByteLevel"}};

  std::unordered_map<std::string_view, int32_t> ids;
  for (size_t i = 0; i < spec.tokens.size(); ++i) ids.emplace(spec.tokens[i], int32_t(i));
  const std::vector<std::string> merges = file.texts("tokenizer.ggml.merges");
  for (size_t i = 0; i < merges.size(); ++i) {
    const std::string_view merge = merges[i];
    const size_t space = merge.find(' ');
    const auto token_of = [&](std::string_view text) {
      const auto found = ids.find(text);
      if (found == ids.end())
        throw DataError(fmt::format(
            "{}: metadata \"tokenizer.ggml.merges\": entry {}, '{}', names the token '{}', which "
            "is not in the vocabulary",
            file.path, i, merge, text));
      return found->second;
    };
    if (space == std::string_view::npos || space == 0 || space + 1 == merge.size() ||
        merge.find(' ', space + 1) != std::string_view::npos)
      throw DataError(
          fmt::format("{}: metadata \"tokenizer.ggml.merges\": entry {} is '{}'; wanted "
                      "two tokens with a space between",
                      file.path, i, merge));
    const std::string_view left = merge.substr(0, space), right = merge.substr(space + 1);
    spec.merges.push_back(
        {token_of(left), token_of(right), token_of(std::string(left).append(right))});
  }
  const std::vector<int8_t> kinds = kinds_of(file, spec.tokens.size());
  for (size_t i = 0; i < kinds.size(); ++i)
    if ((kinds[i] == ScoredPieces::control || kinds[i] == ScoredPieces::user_defined) &&
        !spec.tokens[i].empty())
      spec.added.push_back(
          {.id = int32_t(i), .text = spec.tokens[i], .special = kinds[i] == ScoredPieces::control});
  return spec;
}

}  // namespace

SubwordSpec read_gguf_tokenizer(const GgufFile& file) {
  check_keys(file);
  const std::string model = file.text("tokenizer.ggml.model");
  if (model != "gpt2" && model != "llama")
    throw DataError(
        fmt::format("{}: metadata \"tokenizer.ggml.model\" is '{}', which is not "
                    "supported; wanted gpt2 or llama",
                    file.path, model));
  SubwordSpec spec = model == "llama" ? scored(file) : byte_level(file);
  const size_t size = spec.tokens.size();
  spec.begin_of_text = id_at(file, "tokenizer.ggml.bos_token_id", size);
  spec.end_of_text = id_at(file, "tokenizer.ggml.eos_token_id", size);
  // Where the file does not say, SentencePiece models want it, and Llama 3.
  const bool usual = model == "llama" || file.text("tokenizer.ggml.pre") == "llama-bpe";
  spec.adds_begin_of_text =
      spec.begin_of_text && file.boolean("tokenizer.ggml.add_bos_token", usual);
  if (file.boolean("tokenizer.ggml.add_eos_token", false)) warn_of_closed_texts(file.path);
  return spec;
}

}  // namespace reverie
