#pragma once
/// Decoders: how a tokenizer turns the texts of its tokens back into text.

#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "datasets/tokenizers/pipeline/json_at.h"

namespace reverie {

class Decoder {
 public:
  /// tokenizer.json's terms: Sequence, ByteLevel, Replace, ByteFallback, Fuse, Strip, Metaspace.
  /// DataError naming the path of what is not among them.
  explicit Decoder(const JsonAt& description);

  /// The bytes of a token. Bytes of several tokens may make one character.
  std::string bytes_of(std::string token) const;
  /// Takes away what encode() puts before a text.
  void strip_start(std::string& text) const;

 private:
  void add(const JsonAt& description, int depth);

  bool byte_level_ = false, byte_fallback_ = false;
  std::vector<std::pair<std::string, std::string>> replacements_;
  std::string strip_;  ///< of which at most strip_count_ go
  int64_t strip_count_ = 0;
};

/// The byte that a token such as "<0x0A>" stands for.
std::optional<uint8_t> byte_of_token(std::string_view token);

}  // namespace reverie
