#include "datasets/tokenizers/tokenizer.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "datasets/tokenizers/bpe_tokenizer.h"
#include "datasets/tokenizers/char_tokenizer.h"
#include "datasets/tokenizers/subword_tokenizer.h"
#include "datasets/tokenizers/word_tokenizer.h"
#include "datasets/utf8.h"

namespace reverie {

std::string Tokenizer::hash() const {
  const std::string text = json_text(definition());
  return hash_bytes(text.data(), text.size());
}

void Tokenizer::save(const std::string& directory) const {
  Json file;
  file["format"] = "reverie tokenizer 1";
  file["hash"] = hash();
  file["definition"] = definition();
  const auto path = std::filesystem::path(directory) / kTokenizerFile;
  write_file_atomically(path.string(), json_text(file) + "\n");
}

std::vector<int32_t> Tokenizer::encode_from_beginning(std::string_view text,
                                                      SpecialTokens special) const {
  std::vector<int32_t> tokens = encode(text, special);
  if (adds_begin_of_text()) tokens.insert(tokens.begin(), begin_of_text().value());
  return tokens;
}

void Tokenizer::require_below(std::span<const int32_t> tokens, int64_t rows) const {
  for (size_t i = 0; i < tokens.size(); ++i)
    if (tokens[i] >= rows)
      throw UserError(fmt::format(
          "the text's token {}, \"{}\" (id {}), is unknown to the model, whose vocabulary ends "
          "at {}: remove it from the text",
          i, decode_continued(tokens.subspan(i, 1)), tokens[i], rows));
}

std::string StreamDecoder::next(int32_t token) {
  const auto one = std::span<const int32_t>(&token, 1);
  pending_ += continued_ ? tokenizer_.decode_continued(one) : tokenizer_.decode(one);
  continued_ = true;
  // Keep back at most the three last bytes, if more could still make them a character.
  size_t whole = 0;
  while (whole < pending_.size()) {
    const CodePoint point = decode_code_point(pending_, whole);
    if (point.bytes == 0 && may_become_code_point(std::string_view(pending_).substr(whole))) break;
    whole += size_t(std::max(point.bytes, 1));
  }
  std::string text = pending_.substr(0, whole);
  pending_.erase(0, whole);
  return text;
}

std::shared_ptr<const Tokenizer> tokenizer_from_definition(const Json& definition) {
  try {
    const std::string type = definition.at("type").get<std::string>();
    if (type == "char") return CharTokenizer::from_definition(definition);
    if (type == "gpt2") return BpeTokenizer::from_definition(definition);
    if (type == "subword") return SubwordTokenizer::from_definition(definition);
    if (type == "word") return WordTokenizer::from_definition(definition);
    throw DataError(fmt::format(
        "unknown tokenizer type '{}'; wanted 'char', 'word', 'gpt2' or 'subword'", type));
  } catch (const Json::exception& error) {
    throw DataError(
        fmt::format("the tokenizer's definition was not written by Reverie: {}", error.what()));
  } catch (const UserError& error) {
    throw DataError(error.what());
  }
}

std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& directory) {
  const std::string path = (std::filesystem::path(directory) / kTokenizerFile).string();
  const std::string text = read_file(path);
  Json file;
  std::string stored_hash;
  try {
    file = parse_json(text);
    if (file.at("format").get<std::string>() != "reverie tokenizer 1")
      throw DataError(fmt::format("{}: wanted format 'reverie tokenizer 1', got {}", path,
                                  json_text(file.at("format"))));
    stored_hash = file.at("hash").get<std::string>();
    file.at("definition");
  } catch (const Json::exception& error) {
    throw DataError(fmt::format("{} is not a tokenizer file of Reverie: {}", path, error.what()));
  }
  const auto tokenizer = tokenizer_from_definition(file["definition"]);
  const std::string hash = tokenizer->hash();
  if (hash != stored_hash)
    throw DataError(fmt::format(
        "{} was altered: it says hash {}, its definition has {}; prepare the data again", path,
        stored_hash, hash));
  return tokenizer;
}

}  // namespace reverie
