#pragma once
/// Tokenizers turn text into token ids and back.

#include "core/config.h"

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace reverie {

/// The file that a run directory and a prepared data directory carry.
inline constexpr std::string_view kTokenizerFile = "reverie_tokenizer.json";

/// How the text "<|endoftext|>" is read where the vocabulary has a token for it.
enum class SpecialTokens {
  read,     ///< it is that token
  as_text,  ///< it is text like any other
};

/// Every method is const and may be called from many threads at once.
class Tokenizer {
 public:
  virtual ~Tokenizer() = default;
  virtual std::string_view name() const = 0;    ///< "char", "word", "gpt2", "bpe", ...
  virtual int32_t vocabulary_size() const = 0;  ///< ids are 0 .. vocabulary_size() - 1
  /// Ids below this hold every token but added ones (tokens of images and the like, found in text as
  /// they are written): a model may have as few rows.
  virtual int32_t ordinary_vocabulary_size() const { return vocabulary_size(); }
  /// `text` is UTF-8; DataError with the byte offset where it is not.
  std::vector<int32_t> encode(std::string_view text,
                              SpecialTokens special = SpecialTokens::read) const {
    return encode_text(text, special);
  }
  /// encode(text), after begin_of_text() where the model was trained to see it before every text.
  std::vector<int32_t> encode_from_beginning(std::string_view text,
                                             SpecialTokens special = SpecialTokens::read) const;
  /// decode(encode(text)) gives the bytes of `text`, unless the vocabulary came with a rule that
  /// alters text (Unicode composition, an unknown token). UserError for an id outside the
  /// vocabulary.
  virtual std::string decode(std::span<const int32_t> tokens) const = 0;
  /// The same for tokens that follow others: where encode() puts a space before a text, decode()
  /// takes it away and this does not. StreamDecoder gives text token by token.
  virtual std::string decode_continued(std::span<const int32_t> tokens) const {
    return decode(tokens);
  }
  /// The token between documents, where there is one.
  virtual std::optional<int32_t> end_of_text() const { return std::nullopt; }
  /// The token before a text, where there is one; encode() does not add it.
  virtual std::optional<int32_t> begin_of_text() const { return std::nullopt; }
  /// Whether the model was trained to see begin_of_text() before every text.
  virtual bool adds_begin_of_text() const { return false; }
  /// The first byte p >= `wanted` at which `text` may be cut: encode(text) is encode(text[0, p))
  /// followed by encode(text[p, end)). text.size() when there is no earlier one. Lets long texts be
  /// encoded in parallel pieces.
  virtual size_t cut_after(std::string_view text, size_t wanted) const = 0;
  /// Whether a text that begins or ends inside one of its words can be encoded. Where not, a
  /// held-out part begins at cut_after().
  virtual bool encodes_parts_of_words() const { return true; }
  /// UserError naming the first token that is not below `rows`, a model's vocabulary size.
  void require_below(std::span<const int32_t> tokens, int64_t rows) const;
  /// All that determines the ids; tokenizer_from_definition() gives an equal tokenizer back.
  virtual Json definition() const = 0;

  /// XXH3-128 (32 hexadecimal digits) of the definition: equal hashes give equal ids.
  std::string hash() const;
  /// Writes `directory`/reverie_tokenizer.json, whole or not at all.
  void save(const std::string& directory) const;

 private:
  virtual std::vector<int32_t> encode_text(std::string_view text, SpecialTokens special) const = 0;
};

/// Text of tokens that come one by one, in whole characters: a token may end inside one.
class StreamDecoder {
 public:
  /// `continued`: the tokens follow others, such as a prompt (see decode_continued).
  explicit StreamDecoder(const Tokenizer& tokenizer, bool continued = false)
      : tokenizer_(tokenizer), continued_(continued) {}
  /// The characters that `token` completes. Bytes that cannot become UTF-8 any more are given as
  /// they are.
  std::string next(int32_t token);
  /// The bytes of an unfinished character.
  std::string finish() { return std::move(pending_); }

 private:
  const Tokenizer& tokenizer_;
  bool continued_;
  std::string pending_;
};

/// The tokenizer that definition() described. DataError when it describes none.
std::shared_ptr<const Tokenizer> tokenizer_from_definition(const Json& definition);
/// The tokenizer of a pretrained model: of a .gguf file; of a Hugging Face directory
/// (tokenizer.json, else SentencePiece's tokenizer.model), of one of those files itself; of
/// llama2.c's tokenizer .bin; of a directory with GPT-2's encoder.json and vocab.bpe (Hugging
/// Face: vocab.json and merges.txt), or with a reverie_tokenizer.json. UserError where there is
/// none, DataError where it is malformed or of a kind that is not known.
std::shared_ptr<const Tokenizer> load_tokenizer_for(const std::string& path);
/// Reads `directory`/reverie_tokenizer.json. UserError when it is absent, DataError when it is
/// altered.
std::shared_ptr<const Tokenizer> load_tokenizer(const std::string& directory);

}  // namespace reverie
