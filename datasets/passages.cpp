#include "datasets/passages.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "core/error.h"

namespace reverie {
namespace {

constexpr int64_t kPiece = 1 << 16;  // tokens that are read at a time

}  // namespace

Batch read_rows(const TokenFile& tokens, const std::vector<PassageRow>& rows, int64_t block_size,
                const TargetRule& rule) {
  Batch batch;
  const auto row_count = int64_t(rows.size());
  batch.tokens = Tensor::empty({row_count, block_size}, DType::i32);
  batch.targets = Tensor::empty({row_count, block_size}, DType::i32);
  auto* inputs = batch.tokens.mutable_data<int32_t>();
  auto* targets = batch.targets.mutable_data<int32_t>();
  std::vector<int32_t> window;
  for (const auto& [start, count] : rows) {
    require(count >= 0 && count <= block_size, "a row of {} tokens has {} targets", block_size,
            count);
    window.resize(size_t(count) + 1);
    tokens.copy(start, window);
    std::copy_n(window.begin(), count, inputs);
    std::copy_n(window.begin() + 1, count, targets);
    std::fill_n(inputs + count, block_size - count, window.back());
    std::fill_n(targets + count, block_size - count, kIgnoredTarget);
    batch.target_count += rule.keep(start, {inputs, size_t(count)}, {targets, size_t(count)});
    inputs += block_size;
    targets += block_size;
  }
  return batch;
}

PassageRow Passage::row(int64_t window, int64_t block_size) const {
  const int64_t done = window * block_size;
  if (done >= predictions()) return {end - 1, 0};
  return {begin + done, std::min(block_size, predictions() - done)};
}

std::vector<Passage> documents_in(const TokenFile& tokens,
                                  const std::optional<DocumentMark>& mark) {
  std::vector<Passage> found;
  int64_t begin = 0;
  const auto end_at = [&](int64_t end) {
    if (end - begin >= 2) found.push_back({begin, end});
    begin = end;
  };
  std::vector<int32_t> piece;
  for (int64_t at = 0; mark && at < tokens.count(); at += int64_t(piece.size())) {
    piece.resize(size_t(std::min(kPiece, tokens.count() - at)));
    tokens.copy(at, piece);
    for (size_t i = 0; i < piece.size(); ++i)
      if (piece[i] == mark->token) end_at(at + int64_t(i) + (mark->begins ? 0 : 1));
  }
  end_at(tokens.count());
  return found;
}

std::vector<Passage> cut_passages(const std::vector<Passage>& passages, int64_t block_size,
                                  int64_t most) {
  require(most >= 1, "passages of at most {} windows: wanted at least 1", most);
  std::vector<Passage> pieces;
  for (const Passage& p : passages)
    for (int64_t begin = p.begin; begin + 1 < p.end; begin += most * block_size)
      pieces.push_back({begin, std::min(p.end, begin + most * block_size + 1)});
  return pieces;
}

ConsecutiveWindows::ConsecutiveWindows(TokenFile tokens, const std::optional<DocumentMark>& mark,
                                       int64_t batch_size, int64_t block_size, int64_t window_count,
                                       TargetRule rule)
    : tokens_(std::move(tokens)),
      rule_(std::move(rule)),
      batch_size_(batch_size),
      block_size_(block_size),
      documents_(mark.has_value()) {
  require(batch_size >= 1, "batch_size is {}; wanted at least 1", batch_size);
  require(block_size >= 1, "block_size is {}; wanted at least 1", block_size);
  require(window_count >= 0, "{} evaluation windows were asked for; wanted 0 (all) or more",
          window_count);
  require(!tokens_.is_joined(),
          "the tokens of {} and others are a mix or shards ($.data), whose texts are not read one "
          "window after another: wanted one text in one file",
          tokens_.path());
  std::vector<Passage> all = documents_in(tokens_, mark);
  require(!all.empty(), "{} has {} tokens and no text with a token to predict", tokens_.path(),
          tokens_.count());
  const auto windows_of = [&](const std::vector<Passage>& texts) {
    return std::accumulate(texts.begin(), texts.end(), int64_t(0),
                           [&](int64_t n, const Passage& p) { return n + p.windows(block_size); });
  };
  const int64_t most_windows = windows_of(all),
                budget = window_count > 0 ? std::min(window_count, most_windows) : most_windows;
  const int64_t most = std::max<int64_t>(2, int64_t(std::sqrt(double(budget))));
  if (!documents_) {
    all = cut_passages(all, block_size, most);
  } else if (budget < most_windows) {
    for (Passage& p : all) p.end = std::min(p.end, p.begin + most * block_size + 1);
  }
  const int64_t count = int64_t(all.size()), windows = windows_of(all);
  const int64_t chosen =
      window_count == 0 || windows <= window_count
          ? count
          : std::max<int64_t>(1, int64_t(double(count) * double(window_count) / double(windows)));
  for (int64_t i = 0; i < chosen; ++i) texts_.push_back(all[size_t(i * count / chosen)]);
  std::stable_sort(texts_.begin(), texts_.end(), [&](const Passage& a, const Passage& b) {
    return a.windows(block_size_) > b.windows(block_size_);
  });
}

int64_t ConsecutiveWindows::window_count() const {
  int64_t windows = 0;
  for (const Passage& p : texts_) windows += p.windows(block_size_);
  return windows;
}

int64_t ConsecutiveWindows::windows_in(int64_t group) const {
  return texts_.at(size_t(first_text(group))).windows(block_size_);
}

int64_t ConsecutiveWindows::rows_at(int64_t group, int64_t window) const {
  const int64_t first = first_text(group), end = std::min(first + batch_size_, text_count());
  int64_t rows = 0;
  while (first + rows < end && texts_[size_t(first + rows)].windows(block_size_) > window) ++rows;
  return rows;
}

Batch ConsecutiveWindows::batch(int64_t group, int64_t window) const {
  const int64_t rows = group >= 0 && group < group_count() ? rows_at(group, window) : 0;
  require(rows > 0 && window >= 0, "window {} of group {} of {} texts", window, group,
          text_count());
  std::vector<PassageRow> read;
  for (int64_t r = 0; r < rows; ++r)
    read.push_back(texts_[size_t(first_text(group) + r)].row(window, block_size_));
  return read_rows(tokens_, read, block_size_, rule_);
}

}  // namespace reverie
