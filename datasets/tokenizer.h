#pragma once
// What turns text into token ids and back.

#include "core/config.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace reverie {

// The file that a run directory and a prepared data directory carry.
inline constexpr std::string_view kTokenizerFile = "reverie_tokenizer.json";

// What becomes of the text "<|endoftext|>" where the vocabulary has a token for it.
enum class SpecialTokens {
  read,     // it is that token
  as_text,  // it is text like any other
};

// Every method is const and may be called from many threads at once.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual std::string_view name() const = 0;    // "char", "gpt2"
  virtual int32_t vocabulary_size() const = 0;  // ids are 0 .. vocabulary_size() - 1
  // `text` is UTF-8; DataError with the byte offset where it is not.
  std::vector<int32_t> encode(std::string_view text,
                              SpecialTokens special = SpecialTokens::read) const {
    return encode_text(text, special);
  }
  // decode(encode(text)) gives the bytes of `text`. UserError for an id outside the vocabulary.
  virtual std::string decode(std::span<const int32_t> tokens) const = 0;
  // The token between documents, where there is one.
  virtual std::optional<int32_t> end_of_text() const { return std::nullopt; }
  // The first byte p >= `wanted` at which `text` may be cut: encode(text) is encode(text[0, p))
  // followed by encode(text[p, end)). text.size() when there is no earlier one. Lets long texts be
  // encoded in parallel pieces.
  virtual size_t cut_after(std::string_view text, size_t wanted) const = 0;
  // All that determines the ids; tokenizer_from_definition() gives an equal tokenizer back.
  virtual Json definition() const = 0;

  // XXH3-128 (32 hexadecimal digits) of the definition: equal hashes give equal ids.
  std::string hash() const;
  // Writes `directory`/reverie_tokenizer.json, whole or not at all.
  void save(const std::string& directory) const;

 private:
  virtual std::vector<int32_t> encode_text(std::string_view text, SpecialTokens special) const = 0;
};

// The tokenizer that definition() described. DataError when it describes none.
std::shared_ptr<const Tokenizer> tokenizer_from_definition(const Json& definition);
// Reads `directory`/reverie_tokenizer.json. UserError when it is absent, DataError when it is
// altered.
std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& directory);

}  // namespace reverie
