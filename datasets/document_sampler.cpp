#include "datasets/document_sampler.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "core/random.h"

namespace reverie {
namespace {

template <class T>
void shuffle(std::vector<T>& items, Generator& random) {
  for (size_t i = items.size(); i > 1; --i) std::swap(items[i - 1], items[random.below(i)]);
}

}  // namespace

DocumentSampler::DocumentSampler(TokenFile tokens, const DocumentMark& mark, int64_t batch_size,
                                 int64_t block_size, uint64_t seed)
    : Sampler(std::move(tokens), batch_size, block_size) {
  std::vector<Passage> documents = documents_in(this->tokens(), mark);
  const auto windows = [&](const Passage& p) { return p.windows(block_size); };
  int64_t all = 0;
  for (const Passage& p : documents) all += windows(p);
  require(all >= batch_size,
          "{} documents have {} windows of block_size {}, fewer than batch_size {}: choose a "
          "smaller block_size or batch_size, or more data",
          documents.size(), all, block_size, batch_size);
  documents = cut_passages(documents, block_size, all / batch_size);
  Generator random(seed);
  shuffle(documents, random);
  std::stable_sort(documents.begin(), documents.end(),
                   [&](const Passage& a, const Passage& b) { return windows(a) < windows(b); });
  const auto count = int64_t(documents.size());
  std::vector<int64_t> groups(static_cast<size_t>((count + batch_size - 1) / batch_size));
  std::iota(groups.begin(), groups.end(), 0);
  shuffle(groups, random);
  first_batches_.push_back(0);
  for (const int64_t group : groups) {
    const int64_t first = std::min(group * batch_size, count - batch_size);
    for (int64_t row = 0; row < batch_size; ++row)
      passages_.push_back(documents[size_t(first + row)]);
    first_batches_.push_back(first_batches_.back() + windows(passages_.back()));
  }
}

size_t DocumentSampler::group_of(int64_t batch_index) const {
  const int64_t batch = batch_index % batches_per_pass();
  return size_t(std::upper_bound(first_batches_.begin(), first_batches_.end(), batch) -
                first_batches_.begin() - 1);
}
const Passage& DocumentSampler::passage(int64_t batch_index, int64_t row) const {
  return passages_[group_of(batch_index) * size_t(batch_size()) + size_t(row)];
}
PassageRow DocumentSampler::row_of(int64_t batch_index, int64_t row) const {
  const int64_t window = batch_index % batches_per_pass() - first_batches_[group_of(batch_index)];
  return passage(batch_index, row).row(window, block_size());
}
Batch DocumentSampler::rows(int64_t batch_index, int64_t first_row, int64_t row_count) const {
  require_rows(batch_index, first_row, row_count);
  std::vector<PassageRow> read;
  for (int64_t row = first_row; row < first_row + row_count; ++row)
    read.push_back(row_of(batch_index, row));
  return read_rows(tokens(), read, block_size());
}
int64_t DocumentSampler::target_count(int64_t batch_index) const {
  int64_t count = 0;
  for (int64_t row = 0; row < batch_size(); ++row) count += window_targets(batch_index, row);
  return count;
}
int64_t DocumentSampler::window_start(int64_t batch_index, int64_t row) const {
  return row_of(batch_index, row).start;
}
int64_t DocumentSampler::window_targets(int64_t batch_index, int64_t row) const {
  return row_of(batch_index, row).targets;
}
bool DocumentSampler::begins_texts(int64_t batch_index) const {
  return batch_index % batches_per_pass() == first_batches_[group_of(batch_index)];
}

}  // namespace reverie
