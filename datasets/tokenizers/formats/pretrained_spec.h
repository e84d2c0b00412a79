#pragma once
/// The files in which vocabularies of pretrained models come. Each throws DataError, naming the file
/// and the place in it, where it is malformed or of a kind that is not supported.

#include <string>

#include "core/gguf.h"
#include "datasets/tokenizers/subword_spec.h"

namespace reverie {

/// Hugging Face's tokenizer.json (model BPE). `folder`: where tokenizer_config.json lies, which
/// names the begin- and end-of-text tokens (see tokenizer_config.h); "": nothing lies beside it. The
/// file's own template says whether texts begin with a token, where it has one; else
/// "add_bos_token".
SubwordSpec read_hugging_face(const std::string& file, const std::string& folder = "");
/// SentencePiece's tokenizer.model (type BPE, no normalization rules). `folder` as above: its tokens
/// and "add_bos_token" replace the model's own words.
SubwordSpec read_sentencepiece(const std::string& file, const std::string& folder = "");
/// llama2.c's tokenizer.bin.
SubwordSpec read_llama2c(const std::string& file);
/// The tokenizer in a GGUF file's metadata: tokenizer.ggml.model "gpt2" with tokenizer.ggml.pre
/// "gpt-2", "smollm", "llama-bpe" or "qwen2", and "llama" (SentencePiece's scores).
SubwordSpec read_gguf_tokenizer(const GgufFile& file);

/// Says that the file asks for an end-of-text token behind every text, which is not put there: texts
/// are read to go on.
void warn_of_closed_texts(const std::string& file);

/// A vocabulary of pieces with scores, as SentencePiece, llama2.c and GGUF files have it.
struct ScoredPieces {
  /// SentencePiece's own numbers.
  enum Kind : int8_t {
    normal = 1,
    unknown = 2,
    control = 3,
    user_defined = 4,
    unused = 5,
    byte = 6
  };
  std::vector<std::string> pieces;
  std::vector<float> scores;
  std::vector<int8_t> kinds;
  std::string space = "\xE2\x96\x81";  ///< how the pieces write a space
  bool space_before_text = true;       ///< encode() puts a space before a text
  bool reads_control = true;           ///< control tokens are found in text
};
/// `file`: for messages.
SubwordSpec scored_spec(ScoredPieces pieces, const std::string& file);

}  // namespace reverie
