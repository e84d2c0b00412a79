#include "trainers/generation/ending_text.h"

#include <algorithm>

namespace reverie {

EndingText::EndingText(const Tokenizer& tokenizer, EndRule rule)
    : rule_(std::move(rule)), decoder_(tokenizer, true), stops_(rule_.stops) {}

std::string EndingText::add(int32_t token) {
  if (ended()) return "";
  ++tokens_;
  ended_by_token_ = std::find(rule_.ends.begin(), rule_.ends.end(), token) != rule_.ends.end();
  std::string text;
  if (!ended_by_token_) text = stops_.next(decoder_.next(token));
  if (ended_by_token_ || tokens_ >= rule_.max_tokens) {
    text += stops_.next(decoder_.finish());
    text += stops_.finish();
    finish_ = ended_by_token_ ? "stop" : "length";
  }
  if (stops_.stopped()) finish_ = "stop";
  return text;
}

}  // namespace reverie
