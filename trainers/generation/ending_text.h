#pragma once
/// A text that comes token by token, and where it ends: one rule for `reverie sample`, the server and
/// the texts of benchmarks.

#include <cstdint>
#include <string>
#include <vector>

#include "datasets/tokenizers/tokenizer.h"
#include "trainers/generation/stop_strings.h"

namespace reverie {

struct EndRule {
  int64_t max_tokens = 0;               ///< drawn, also one that ends the text
  std::vector<int32_t> ends = {};       ///< tokens that end it, and are not part of it
  std::vector<std::string> stops = {};  ///< strings that do the same
};

class EndingText {
 public:
  EndingText(const Tokenizer& tokenizer, EndRule rule);
  /// A token more -> the text that can be given out now, in whole characters; what may be the
  /// beginning of a stop string is held back until that is known.
  std::string add(int32_t token);
  /// "": it goes on; "stop": a token or string that ends it came; "length": max_tokens were drawn.
  const std::string& finish() const { return finish_; }
  bool ended() const { return !finish_.empty(); }
  /// Whether a token of the rule's ended it, which was the last one.
  bool ended_by_token() const { return ended_by_token_; }
  int64_t tokens() const { return tokens_; }  ///< drawn so far

 private:
  EndRule rule_;
  StreamDecoder decoder_;
  StopStrings stops_;
  std::string finish_;
  bool ended_by_token_ = false;
  int64_t tokens_ = 0;
};

}  // namespace reverie
