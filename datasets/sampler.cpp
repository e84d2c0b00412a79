#include "datasets/sampler.h"

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "core/random.h"

namespace reverie {

void require_window(const TokenFile& tokens, int64_t block_size) {
  if (tokens.count() > block_size) return;
  const std::string file = tokens.path().empty() ? "it" : tokens.path();
  require(tokens.count() >= 2,
          "the data are too few: {} has {} tokens, and a window takes block_size + 1 = {}; give "
          "more data, or a $.data.validation_fraction that leaves some for both splits",
          file, tokens.count(), block_size + 1);
  throw UserError(fmt::format(
      "block_size {} is larger than the data: {} has {} tokens, and a window takes block_size + 1; "
      "choose a block_size of at most {}, or more data",
      block_size, file, tokens.count(), tokens.count() - 1));
}

namespace {

void check_sizes(const TokenFile& tokens, int64_t batch_size, int64_t block_size) {
  require(batch_size >= 1, "batch_size is {}; wanted at least 1", batch_size);
  require(block_size >= 1, "block_size is {}; wanted at least 1", block_size);
  require_window(tokens, block_size);
}

template <class Start>
Batch gather(const TokenFile& tokens, int64_t row_count, int64_t block_size, const TargetRule& rule,
             Start start) {
  Batch batch;
  batch.tokens = Tensor::empty({row_count, block_size}, DType::i32);
  batch.targets = Tensor::empty({row_count, block_size}, DType::i32);
  auto* inputs = batch.tokens.mutable_data<int32_t>();
  auto* targets = batch.targets.mutable_data<int32_t>();
  std::vector<int32_t> window(size_t(block_size) + 1);
  for (int64_t row = 0; row < row_count; ++row) {
    const int64_t first = start(row);
    tokens.copy(first, window);
    std::copy_n(window.begin(), block_size, inputs + row * block_size);
    std::copy_n(window.begin() + 1, block_size, targets + row * block_size);
    if (rule.window_begin) inputs[row * block_size] = *rule.window_begin;
    batch.target_count += rule.keep(first, {inputs + row * block_size, size_t(block_size)},
                                    {targets + row * block_size, size_t(block_size)});
  }
  return batch;
}

int64_t records_in(const TokenFile& tokens, const ExampleLayout& layout) {
  require(
      layout.length >= 2 && tokens.count() >= layout.length && tokens.count() % layout.length == 0,
      "{} has {} tokens, which is not a multiple of the record length {}", tokens.path(),
      tokens.count(), layout.length);
  return tokens.count() / layout.length;
}

// How many windows of each entry: in all as many as are asked for (0: as fit), if they fit.
std::vector<int64_t> windows_by_share(const MixLayout& mix, int64_t block_size, int64_t asked) {
  constexpr double kRounding = 1e-9;
  int64_t all = asked;
  for (const MixLayout::Entry& entry : mix.entries) {
    const auto fit = int64_t(double(entry.windows(block_size)) / entry.share + kRounding);
    all = all == 0 ? fit : std::min(all, fit);
  }
  std::vector<int64_t> counts;
  std::vector<std::pair<double, size_t>> rests;  // what rounding down took, the largest first
  int64_t given = 0;
  for (const MixLayout::Entry& entry : mix.entries) {
    const double wanted = double(all) * entry.share;
    counts.push_back(std::min(int64_t(wanted + kRounding), entry.windows(block_size)));
    rests.emplace_back(double(counts.back()) - wanted, rests.size());
    given += counts.back();
  }
  std::stable_sort(rests.begin(), rests.end());
  for (size_t i = 0; i < rests.size() && given < all; ++i) {
    const size_t e = rests[i].second;
    if (counts[e] == mix.entries[e].windows(block_size)) continue;
    ++counts[e];
    ++given;
  }
  return counts;
}

}  // namespace

Batch read_windows(const TokenFile& tokens, const std::vector<int64_t>& starts,
                   int64_t block_size) {
  return gather(tokens, int64_t(starts.size()), block_size, {},
                [&](int64_t row) { return starts[size_t(row)]; });
}

Sampler::Sampler(TokenFile tokens, int64_t batch_size, int64_t block_size, TargetRule rule)
    : tokens_(std::move(tokens)),
      rule_(std::move(rule)),
      batch_size_(batch_size),
      block_size_(block_size) {
  check_sizes(tokens_, batch_size, block_size);
}

void Sampler::seek(int64_t batch_index) {
  require(batch_index >= 0, "a sampler cannot go to batch {}", batch_index);
  position_ = batch_index;
}

void Sampler::require_rows(int64_t batch_index, int64_t first_row, int64_t row_count) const {
  require(batch_index >= 0 && first_row >= 0 && row_count >= 1 && first_row <= batch_size_ &&
              row_count <= batch_size_ - first_row,
          "rows {} to {} of batch {} were asked of a sampler with {} rows a batch", first_row,
          first_row + row_count, batch_index, batch_size_);
}

Batch Sampler::rows(int64_t batch_index, int64_t first_row, int64_t row_count) const {
  require_rows(batch_index, first_row, row_count);
  return gather(tokens_, row_count, block_size_, rule_,
                [&](int64_t row) { return window_start(batch_index, first_row + row); });
}

int64_t Sampler::target_count(int64_t batch_index) const {
  // Where not every token is a target, the tokens must be looked at.
  return rule_.keeps_all() ? batch_size_ * block_size_ : batch(batch_index).target_count;
}

RandomWindowSampler::RandomWindowSampler(TokenFile tokens, int64_t batch_size, int64_t block_size,
                                         uint64_t seed, TargetRule rule)
    : Sampler(std::move(tokens), batch_size, block_size, std::move(rule)), seed_(seed) {}

int64_t RandomWindowSampler::window_start(int64_t batch_index, int64_t row) const {
  return int64_t(philox_below(seed_, uint64_t(batch_index) * uint64_t(batch_size()) + uint64_t(row),
                              uint64_t(tokens().count() - block_size())));
}

RandomExampleSampler::RandomExampleSampler(TokenFile tokens, const ExampleLayout& layout,
                                           int64_t batch_size, uint64_t seed)
    : Sampler(tokens, batch_size, layout.length - 1, TargetRule(layout)), seed_(seed) {
  records_in(tokens, layout);
}

int64_t RandomExampleSampler::window_start(int64_t batch_index, int64_t row) const {
  const int64_t length = block_size() + 1;
  return length *
         int64_t(philox_below(seed_, uint64_t(batch_index) * uint64_t(batch_size()) + uint64_t(row),
                              uint64_t(tokens().count() / length)));
}

SequentialSampler::SequentialSampler(TokenFile tokens, int64_t batch_size, int64_t block_size)
    : Sampler(std::move(tokens), batch_size, block_size),
      lane_tokens_((this->tokens().count() - 1) / batch_size),
      batches_per_pass_(lane_tokens_ / block_size) {
  require(batches_per_pass_ >= 1,
          "block_size {} is larger than a lane: {} tokens in {} lanes (batch_size) leave {} each; "
          "choose a smaller "
          "block_size or batch_size",
          block_size, this->tokens().count(), batch_size, lane_tokens_);
}

int64_t SequentialSampler::window_start(int64_t batch_index, int64_t row) const {
  return row * lane_tokens_ + batch_index % batches_per_pass_ * block_size();
}

EvaluationWindows::EvaluationWindows(TokenFile tokens, int64_t batch_size, int64_t block_size,
                                     int64_t window_count)
    : tokens_(std::move(tokens)), batch_size_(batch_size), block_size_(block_size) {
  check_sizes(tokens_, batch_size, block_size);
  require(
      !tokens_.is_joined(),
      "the tokens of {} and others are a mix or shards ($.data), which this measurement does not "
      "read: wanted one text in one file",
      tokens_.path());
  require(window_count >= 0, "{} evaluation windows were asked for; wanted 0 (all) or more",
          window_count);
  const int64_t fit = (tokens_.count() - 1) / block_size;
  window_count_ = window_count == 0 ? fit : std::min(window_count, fit);
  if (window_count == 0 || window_count > fit) rest_ = tokens_.count() - 1 - fit * block_size;
}

EvaluationWindows EvaluationWindows::of_documents(TokenFile tokens, const DocumentMark& mark,
                                                  int64_t batch_size, int64_t block_size,
                                                  int64_t window_count, const TargetRule& rule) {
  EvaluationWindows windows(tokens, batch_size, block_size, window_count);
  windows.rule_ = rule;
  std::vector<int64_t> fit;
  int64_t free = 0;            // the first token that no window has
  std::vector<int32_t> piece;  // of the file, read in rising order
  int64_t piece_begin = 0;
  const auto token = [&](int64_t at) {
    if (at >= piece_begin + int64_t(piece.size())) {
      piece.resize(size_t(std::min<int64_t>(1 << 16, tokens.count() - at)));
      tokens.copy(at, piece);
      piece_begin = at;
    }
    return piece[size_t(at - piece_begin)];
  };
  for (int64_t at = 0; at + block_size < tokens.count(); ++at) {
    const bool begins =
        mark.begins ? token(at) == mark.token : at == 0 || token(at - 1) == mark.token;
    if (!begins || at < free) continue;
    fit.push_back(at);
    free = at + block_size + 1;
  }
  require(!fit.empty(), "no document begins {} tokens or more before the end of {}", block_size + 1,
          tokens.path());
  const auto most = int64_t(fit.size());
  windows.window_count_ = window_count == 0 ? most : std::min(window_count, most);
  windows.rest_ = 0;
  for (int64_t i = 0; i < windows.window_count_; ++i)
    windows.starts_.push_back(fit[size_t(i * most / windows.window_count_)]);
  return windows;
}

EvaluationWindows EvaluationWindows::of_examples(TokenFile tokens, const ExampleLayout& layout,
                                                 int64_t batch_size, int64_t example_count) {
  const int64_t all = records_in(tokens, layout);
  EvaluationWindows windows(std::move(tokens), batch_size, layout.length - 1, 1);
  windows.rule_ = TargetRule(layout);
  windows.rest_ = 0;
  windows.window_count_ = example_count == 0 ? all : std::min(example_count, all);
  for (int64_t i = 0; i < windows.window_count_; ++i)
    windows.starts_.push_back(i * all / windows.window_count_ * layout.length);
  return windows;
}

EvaluationWindows EvaluationWindows::of_task(TokenFile tokens, const TargetRule& rule,
                                             int64_t batch_size, int64_t block_size,
                                             int64_t window_count) {
  const TaskLayout& task = rule.task.value();
  task.require_block_size(block_size);
  const int64_t all = task.documents_in(tokens), blocks = task.blocks_of(block_size);
  require(window_count >= 0, "{} evaluation windows were asked for; wanted 0 (all) or more",
          window_count);
  const int64_t wanted = (window_count + blocks - 1) / blocks,
                documents = window_count == 0 ? all : std::min(wanted, all);
  EvaluationWindows windows(std::move(tokens), batch_size, block_size, 1);
  windows.rule_ = rule;
  windows.rest_ = 0;
  windows.window_count_ = documents * blocks;
  for (int64_t i = 0; i < documents; ++i)
    for (int64_t block = 0; block < blocks; ++block)
      windows.starts_.push_back(i * all / documents * task.document_length() + block * block_size);
  return windows;
}

EvaluationWindows EvaluationWindows::of_mix(TokenFile tokens, const MixLayout& mix,
                                            int64_t batch_size, int64_t block_size,
                                            int64_t window_count) {
  require(window_count >= 0, "{} evaluation windows were asked for; wanted 0 (all) or more",
          window_count);
  check_sizes(tokens, batch_size, block_size);
  mix.require_windows(block_size, "held-out");
  EvaluationWindows windows;
  windows.tokens_ = std::move(tokens);
  windows.batch_size_ = batch_size;
  windows.block_size_ = block_size;
  const std::vector<int64_t> counts = windows_by_share(mix, block_size, window_count);
  for (size_t e = 0; e < counts.size(); ++e) {
    const MixLayout::Entry& entry = mix.entries[e];
    const int64_t fit = entry.windows(block_size);
    auto shard = entry.shards.begin();
    int64_t before = 0;  // windows of the shards before this one
    for (int64_t i = 0; i < counts[e]; ++i) {
      const int64_t window = i * fit / counts[e];
      while (window - before >= shard->windows(block_size))
        before += (shard++)->windows(block_size);
      windows.starts_.push_back(shard->first + (window - before) * block_size);
    }
  }
  windows.window_count_ = int64_t(windows.starts_.size());
  return windows;
}

EvaluationWindows EvaluationWindows::over(TokenFile tokens, const TargetRule& rule,
                                          int64_t batch_size, int64_t block_size, int64_t count) {
  if (rule.examples) return of_examples(std::move(tokens), *rule.examples, batch_size, count);
  if (rule.task) return of_task(std::move(tokens), rule, batch_size, block_size, count);
  if (rule.mix) return of_mix(std::move(tokens), *rule.mix, batch_size, block_size, count);
  EvaluationWindows windows(std::move(tokens), batch_size, block_size, count);
  windows.rule_ = rule;
  return windows;
}

EvaluationWindows EvaluationWindows::where(const std::function<bool(int64_t)>& wanted) const {
  EvaluationWindows some = *this;
  some.starts_.clear();
  for (int64_t i = 0; i < window_count_; ++i)
    if (wanted(i)) some.starts_.push_back(window_start(i));
  require(!some.starts_.empty(), "none of {} evaluation windows is wanted", window_count_);
  some.window_count_ = int64_t(some.starts_.size());
  some.rest_ = 0;
  return some;
}

int64_t EvaluationWindows::window_start(int64_t window) const {
  require(window >= 0 && window < window_count(), "evaluation window {} of {}", window,
          window_count());
  if (!starts_.empty()) return starts_[size_t(window)];
  if (window_count_ == (tokens_.count() - 1) / block_size_)
    return window * block_size_;  // side by side
  const int64_t last = tokens_.count() - 1 - block_size_;
  if (window_count_ == 1) return 0;
  return int64_t(static_cast<__int128>(last) * window / (window_count_ - 1));
}

Batch EvaluationWindows::batch(int64_t index) const {
  require(index >= 0 && index < batch_count(), "evaluation batch {} of {}", index, batch_count());
  if (rest_ > 0 && index == batch_count() - 1)
    return gather(tokens_, 1, rest_, rule_, [&](int64_t) { return window_start(window_count_); });
  const int64_t first = index * batch_size_;
  return gather(tokens_, std::min(batch_size_, window_count_ - first), block_size_, rule_,
                [&](int64_t row) { return window_start(first + row); });
}

}  // namespace reverie
