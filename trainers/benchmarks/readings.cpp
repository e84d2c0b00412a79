#include "trainers/benchmarks/readings.h"

#include <algorithm>

#include "core/error.h"
#include "datasets/benchmarks/template.h"

namespace reverie {
namespace {

int32_t prefix_token(const Tokenizer& tokenizer) {
  if (const auto begin = tokenizer.begin_of_text()) return *begin;
  if (const auto end = tokenizer.end_of_text()) return *end;
  throw UserError(
      "a context is empty, and the tokenizer has neither a begin-of-text nor an end-of-text token "
      "to "
      "put in its place: give the task a prompt that is not empty");
}

}  // namespace

std::vector<Reading> likelihood_readings(const BenchmarkItems& items,
                                         const ReadingOptions& options) {
  const Tokenizer& tokenizer = options.tokenizer;
  std::vector<Reading> readings;
  for (size_t i = 0; i < items.items.size(); ++i) {
    const BenchmarkItem& item = items.items[i];
    const size_t first = readings.size();
    for (size_t choice = 0; choice < item.continuations.size(); ++choice) {
      const std::string& context = item.context(choice);
      std::vector<int32_t> read, wanted;
      // Only the end's white space moves; stripped() takes that of both ends.
      const std::string kept = stripped("x" + context).substr(1);
      const std::string both = context + item.continuations[choice];
      if (kept.empty()) {
        read = {prefix_token(tokenizer)};
        wanted = tokenizer.encode(both);
      } else {
        read = tokenizer.encode_from_beginning(kept);
        const std::vector<int32_t> whole = tokenizer.encode_from_beginning(both);
        wanted.assign(whole.begin() + std::ptrdiff_t(std::min(whole.size(), read.size())),
                      whole.end());
      }
      require(!wanted.empty(),
              "item {}: the continuation '{}' has no token of its own behind its context",
              item.number, item.continuations[choice].substr(0, 60));
      require(int64_t(wanted.size()) <= options.room,
              "item {}: a continuation of {} tokens is longer than the model reads ({}): take "
              "another task, or a model with a larger block_size",
              item.number, wanted.size(), options.room);
      tokenizer.require_below(read, options.rows);
      tokenizer.require_below(wanted, options.rows);
      const int64_t excess = int64_t(read.size() + wanted.size()) - options.room - 1;
      if (excess > 0) read.erase(read.begin(), read.begin() + std::ptrdiff_t(excess));
      const auto same = std::find_if(readings.begin() + std::ptrdiff_t(first), readings.end(),
                                     [&](const Reading& r) { return r.context == read; });
      if (same == readings.end())
        readings.push_back({std::move(read), {{i, choice, wanted}}, item.group, excess > 0});
      else
        same->continuations.push_back({i, choice, wanted});
    }
  }
  return readings;
}

std::vector<int32_t> prompt_reading(const std::string& prompt, int64_t max_tokens,
                                    const ReadingOptions& options, bool& cut) {
  const int64_t room = options.room - max_tokens;
  require(room >= 1,
          "{} tokens are to be written, and the model reads {} in all: lower \"max_tokens\" in the "
          "task, or take a model with a larger block_size",
          max_tokens, options.room);
  std::vector<int32_t> tokens = options.tokenizer.encode_from_beginning(prompt);
  if (tokens.empty()) tokens = {prefix_token(options.tokenizer)};
  options.tokenizer.require_below(tokens, options.rows);
  cut = int64_t(tokens.size()) > room;
  if (cut) tokens.erase(tokens.begin(), tokens.end() - std::ptrdiff_t(room));
  return tokens;
}

std::vector<int32_t> common_beginning(const std::vector<const Reading*>& readings) {
  std::vector<int32_t> common;
  bool first = true;
  for (const Reading* reading : readings) {
    if (reading->cut) continue;
    const std::vector<int32_t>& context = reading->context;
    if (first) {
      common = context;
      first = false;
    }
    const auto end = std::mismatch(common.begin(), common.end(), context.begin(), context.end());
    common.erase(end.first, common.end());
    if (common.size() >= context.size()) common.resize(context.size() - 1);
  }
  return common;
}

}  // namespace reverie
