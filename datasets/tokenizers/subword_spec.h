#pragma once
/// Everything that determines a subword tokenizer's ids, whatever file it came from.

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "core/config.h"
#include "datasets/tokenizers/merges.h"
#include "datasets/tokenizers/pipeline/added_tokens.h"

namespace reverie {

struct SubwordSpec {
  std::string name;                 ///< "bpe", "sentencepiece"
  std::vector<std::string> tokens;  ///< by id, as the file writes them (UTF-8); "": no such token
  /// Which pairs merge: either a list, whose order is that in which they merge; or a score a token,
  /// and any two pieces merge into a token that may be made so, the highest score first
  /// (SentencePiece; Kudo & Richardson 2018).
  std::vector<Merge> merges;
  std::vector<float> scores;
  std::vector<bool>
      made_by_merging;  ///< beside scores: not so are control tokens, bytes and the like

  bool byte_fallback = false;  ///< characters without a token become tokens "<0x00>" to "<0xFF>"
  bool ignore_merges = false;  ///< a word that is a token is that token, whatever the merges say
  bool fuse_unknown = false;   ///< unknown characters in a row are one unknown token
  std::optional<int32_t> unknown;
  std::vector<AddedToken> added;
  /// In tokenizer.json's terms; null: none.
  Json normalizer, pre_tokenizer, decoder;

  std::optional<int32_t> begin_of_text, end_of_text;
  bool adds_begin_of_text = false;
};

Json to_json(const SubwordSpec&);
/// DataError where `json` is not what to_json() gave.
SubwordSpec subword_spec_from_json(const Json&);

}  // namespace reverie
