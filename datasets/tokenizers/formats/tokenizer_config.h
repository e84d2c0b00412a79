#pragma once
/// What lies beside a tokenizer's own file in a Hugging Face directory: tokenizer_config.json,
/// special_tokens_map.json and added_tokens.json.

#include <nlohmann/json.hpp>
#include <optional>
#include <string>
#include <vector>

#include "datasets/tokenizers/pipeline/added_tokens.h"

namespace reverie {

/// A token that a file names by its text, and the place where it does.
struct NamedToken {
  std::string text, path;
};

struct TokenizerConfig {
  std::string file;  ///< tokenizer_config.json
  std::optional<NamedToken> begin, end;
  std::optional<bool> adds_begin;  ///< "add_bos_token"
  bool adds_end = false;           ///< "add_eos_token"
  std::vector<AddedToken> added;   ///< "added_tokens_decoder", else added_tokens.json
};

/// Everything empty where the files are absent. DataError where one is malformed.
TokenizerConfig read_tokenizer_config(const std::string& folder);

/// A file as plain JSON, whose objects are sorted maps: ordered ones (Json) would take the square of
/// a vocabulary's size to read. DataError where it is no JSON or nested too deeply.
nlohmann::json parse_plain_json(const std::string& file);

}  // namespace reverie
