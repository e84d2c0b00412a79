#include "datasets/task_data.h"

#include <algorithm>

#include "core/error.h"

namespace reverie {

void TaskLayout::require_block_size(int64_t block_size) const {
  require(block_size >= window && block_size % window == 0 && document_length() % block_size == 0,
          "the model's block_size {} does not fit the task {}, whose documents are {} windows of "
          "{} tokens: set block_size to {} (a window), or to {} (a document; other whole numbers "
          "of windows that divide it do as well)",
          block_size, type, windows, window, window, document_length());
}

int64_t TaskLayout::documents_in(const TokenFile& tokens) const {
  // A mark stands behind the last document, as the target of its last token.
  const int64_t length = document_length(), documents = (tokens.count() - 1) / length;
  require(documents >= 1 && tokens.count() == documents * length + 1,
          "{} has {} tokens, which are not whole documents of {} and a mark", tokens.path(),
          tokens.count(), length);
  return documents;
}

void read_distances(const TokenFile& answers, int64_t first, std::span<int32_t> out) {
  answers.copy(first, out);
  for (int32_t& label : out) label -= 1;
}

int64_t TargetRule::keep(int64_t first, std::span<const int32_t> tokens,
                         std::span<int32_t> targets) const {
  if (examples) return keep_example_targets(*examples, tokens, targets);
  if (keeps_all()) return int64_t(targets.size());
  std::vector<int32_t> distances(targets.size());
  read_distances(answers, first + 1, distances);
  int64_t kept = 0;
  for (size_t i = 0; i < targets.size(); ++i) {
    if (distances[i] < 0) targets[i] = -1;
    kept += distances[i] >= 0;
  }
  return kept;
}

}  // namespace reverie
