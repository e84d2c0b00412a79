#include "datasets/tokenizers/bpe_tokenizer.h"

#include <filesystem>
#include <nlohmann/json.hpp>
#include <unordered_map>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "datasets/tokenizers/byte_alphabet.h"
#include "datasets/tokenizers/formats/tokenizer_config.h"
#include "datasets/tokenizers/gpt2_split.h"
#include "datasets/tokenizers/unicode_classes.h"
#include "datasets/utf8.h"

namespace reverie {

namespace {
constexpr std::string_view kEndOfText = "<|endoftext|>";
}  // namespace

BpeTokenizer::BpeTokenizer(std::array<int32_t, 256> byte_tokens, std::vector<Merge> merges,
                           int32_t end_of_text)
    : byte_tokens_(byte_tokens), merges_(std::move(merges)), end_of_text_(end_of_text) {
  const size_t size = 256 + merges_.size() + 1;
  if (merges_.size() > size_t(1) << 24)
    throw DataError(fmt::format("{} merges are too many", merges_.size()));
  pieces_.resize(size);
  const auto claim = [&](int32_t token, std::string bytes) {
    if (token < 0 || size_t(token) >= size || !pieces_[size_t(token)].empty())
      throw DataError(
          fmt::format("token {} is outside the vocabulary of {} or given twice", token, size));
    pieces_[size_t(token)] = std::move(bytes);
  };
  for (int byte = 0; byte < 256; ++byte)
    claim(byte_tokens_[size_t(byte)], std::string(1, char(byte)));
  claim(end_of_text_, std::string(kEndOfText));

  table_ = MergeTable(merges_.size());
  for (size_t rank = 0; rank < merges_.size(); ++rank) {
    const Merge& merge = merges_[rank];
    // That parts come first is what makes the lowest rank first the same as GPT-2's order.
    for (const int32_t part : {merge.left, merge.right})
      if (part < 0 || size_t(part) >= size || part == end_of_text_ || pieces_[size_t(part)].empty())
        throw DataError(
            fmt::format("merge {} joins token {}, which no earlier merge makes", rank, part));
    claim(merge.result, pieces_[size_t(merge.left)] + pieces_[size_t(merge.right)]);
    if (!table_.add(merge, int32_t(rank)))
      throw DataError(fmt::format("merge {} is given twice", rank));
  }
}

void BpeTokenizer::encode_word(std::string_view word, std::vector<int32_t>& tokens) const {
  const size_t first = tokens.size();
  for (const char byte : word) tokens.push_back(byte_tokens_[uint8_t(byte)]);
  table_.merge(tokens, first);
}

void BpeTokenizer::encode_ordinary(std::string_view text, size_t base, WordCache& cache,
                                   std::vector<int32_t>& tokens) const {
  const auto encode = [this](std::string_view word, std::vector<int32_t>& out) {
    encode_word(word, out);
  };
  constexpr size_t kAtOnce = 8;  // words whose places come from memory meanwhile
  std::array<WordCache::Place, kAtOnce> words;
  for (size_t at = 0; at < text.size();) {
    size_t count = 0;
    for (; count < kAtOnce && at < text.size(); ++count) {
      const size_t end = gpt2_word_end(text, at, base);
      words[count] = cache.place(text.substr(at, end - at), text.size() - at);
      at = end;
    }
    for (size_t i = 0; i < count; ++i) cache.append(words[i], tokens, encode);
  }
}

std::vector<int32_t> BpeTokenizer::encode_text(std::string_view text, SpecialTokens special) const {
  std::vector<int32_t> tokens;
  tokens.reserve(text.size() / 3);
  WordCaches::Lease cache(caches_);
  size_t at = 0;
  while (special == SpecialTokens::read) {
    const size_t found = text.find(kEndOfText, at);
    if (found == std::string_view::npos) break;
    encode_ordinary(text.substr(at, found - at), at, *cache, tokens);
    tokens.push_back(end_of_text_);
    at = found + kEndOfText.size();
  }
  encode_ordinary(text.substr(at), at, *cache, tokens);
  return tokens;
}

std::string BpeTokenizer::decode(std::span<const int32_t> tokens) const {
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i) {
    require(tokens[i] >= 0 && tokens[i] < vocabulary_size(),
            "token {} at position {} is outside the vocabulary of {}", tokens[i], i,
            vocabulary_size());
    text += pieces_[size_t(tokens[i])];
  }
  return text;
}

size_t BpeTokenizer::cut_after(std::string_view text, size_t wanted) const {
  return gpt2_cut_after(text, wanted);
}

Json BpeTokenizer::definition() const {
  Json merges = Json::array();
  for (const Merge& merge : merges_) {
    merges.push_back(merge.left);
    merges.push_back(merge.right);
    merges.push_back(merge.result);
  }
  return {{"type", "gpt2"},
          {"split", fmt::format("gpt2, Unicode {}", kUnicodeVersion)},
          {"bytes", byte_tokens_},
          {"end_of_text", end_of_text_},
          {"merges", std::move(merges)}};
}

std::shared_ptr<const BpeTokenizer> BpeTokenizer::from_definition(const Json& definition) {
  const std::string split = fmt::format("gpt2, Unicode {}", kUnicodeVersion);
  if (definition.at("split").get<std::string>() != split)
    throw DataError(fmt::format("the tokenizer splits by {}; this build splits by '{}'",
                                json_text(definition.at("split")), split));
  const auto flat = definition.at("merges").get<std::vector<int32_t>>();
  if (flat.size() % 3 != 0) throw DataError("the tokenizer's merges are not whole triples");
  std::vector<Merge> merges;
  for (size_t i = 0; i < flat.size(); i += 3) merges.push_back({flat[i], flat[i + 1], flat[i + 2]});
  return std::make_shared<BpeTokenizer>(definition.at("bytes").get<std::array<int32_t, 256>>(),
                                        std::move(merges),
                                        definition.at("end_of_text").get<int32_t>());
}

std::shared_ptr<const BpeTokenizer> BpeTokenizer::from_gpt2_files(const std::string& directory) {
  const auto path = [&](const char* name) {
    return (std::filesystem::path(directory) / name).string();
  };
  // Hugging Face has the same two files under names of its own.
  const bool renamed =
      !std::filesystem::exists(path("encoder.json")) && std::filesystem::exists(path("vocab.json"));
  const std::string encoder_path = path(renamed ? "vocab.json" : "encoder.json"),
                    merges_path = path(renamed ? "merges.txt" : "vocab.bpe");
  std::unordered_map<std::string, int32_t> encoder;
  try {
    // Not Json, which keeps the order of its keys and looks for each among all before it.
    encoder = parse_plain_json(encoder_path).get<std::unordered_map<std::string, int32_t>>();
  } catch (const nlohmann::json::exception& error) {
    throw DataError(fmt::format("{} is not a table of tokens: {}", encoder_path, error.what()));
  }
  const auto token_of = [&](const std::string& characters) {
    const auto found = encoder.find(characters);
    if (found == encoder.end())
      throw DataError(fmt::format("{} lacks the token '{}'", encoder_path, characters));
    return found->second;
  };

  std::array<int32_t, 256> byte_tokens{};
  for (size_t byte = 0; byte < 256; ++byte) {
    std::string character;
    append_code_point(character, byte_characters()[byte]);
    byte_tokens[byte] = token_of(character);
  }

  const std::string text = read_file(merges_path);
  std::vector<Merge> merges;
  size_t line_number = 0;
  for (size_t at = 0; at < text.size(); ++line_number) {
    const size_t end = std::min(text.find('\n', at), text.size());
    std::string line = text.substr(at, end - at);
    at = end + 1;
    if (!line.empty() && line.back() == '\r') line.pop_back();
    if (line.empty() || (line_number == 0 && line.starts_with("#version"))) continue;
    const size_t space = line.find(' ');
    if (space == std::string::npos || space == 0 || space + 1 == line.size() ||
        line.find(' ', space + 1) != std::string::npos)
      throw DataError(fmt::format("{}, line {}: wanted two tokens with a space between, got '{}'",
                                  merges_path, line_number + 1, line));
    const std::string left = line.substr(0, space), right = line.substr(space + 1);
    merges.push_back({token_of(left), token_of(right), token_of(left + right)});
  }
  if (encoder.size() != 256 + merges.size() + 1)
    throw DataError(fmt::format("{} has {} tokens; 256 bytes, the {} merges of {} and {} make {}",
                                encoder_path, encoder.size(), merges.size(), merges_path,
                                kEndOfText, 256 + merges.size() + 1));
  return std::make_shared<BpeTokenizer>(byte_tokens, std::move(merges),
                                        token_of(std::string(kEndOfText)));
}

}  // namespace reverie
