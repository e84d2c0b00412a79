#include "trainers/evaluation/insertion_rule.h"

#include <algorithm>
#include <numeric>

#include "core/error.h"
#include "core/files.h"
#include "core/random.h"

namespace reverie {
namespace {

// The first 64 bits of the hash of the tokens' bytes.
uint64_t seed_of(std::span<const int32_t> tokens) {
  return std::stoull(hash_bytes(tokens.data(), tokens.size_bytes()).substr(0, 16), nullptr, 16);
}

}  // namespace

std::string InsertionRule::text() const {
  if (at_targets) return "in front of each text's first target";
  const std::string range = fmt::format("{} to T - {} of a text of T tokens", first, positions - 1);
  return points == 0 ? fmt::format("at every offset from {}", range)
                     : fmt::format("{} offsets of each text, drawn by its own tokens from {}",
                                   points, range);
}

InsertionRule InsertionRule::of(const AugmentedModel& model) {
  InsertionRule rule;
  rule.positions = model.options().ahead;
  rule.first = 1 + model.options().delay;
  rule.at_targets = model.options().insert == "targets";
  return rule;
}

bool has_insertions(int64_t tokens, const InsertionRule& rule) {
  return tokens + 1 - rule.positions >= rule.first;
}

std::vector<int32_t> insertion_offsets(std::span<const int32_t> tokens, const InsertionRule& rule) {
  const int64_t time = int64_t(tokens.size()), all = time + 1 - rule.positions - rule.first + 1;
  require(all > 0,
          "a text of {} tokens is too short for an insertion after {} tokens with {} scored "
          "tokens behind it; wanted {} or more",
          time, rule.first, rule.positions, rule.first + rule.positions - 1);
  std::vector<int32_t> offsets(static_cast<size_t>(all));
  std::iota(offsets.begin(), offsets.end(), int32_t(rule.first));
  if (rule.points == 0 || rule.points >= all) return offsets;
  // The first steps of a shuffle: each offset is as likely as any other, and none comes twice.
  Generator random(seed_of(tokens));
  for (int64_t i = 0; i < rule.points; ++i)
    std::swap(offsets[size_t(i)], offsets[size_t(i) + size_t(random.below(uint64_t(all - i)))]);
  offsets.resize(size_t(rule.points));
  std::sort(offsets.begin(), offsets.end());
  return offsets;
}

Tensor insertion_limits(const Tensor& tokens, const InsertionRule& rule) {
  const Tensor host = tokens.to(Device{}).contiguous();
  const int64_t batch = host.size(0), time = host.size(1);
  std::vector<int32_t> limits;
  for (int64_t b = 0; b < batch; ++b) {
    const auto own = insertion_offsets({host.data<int32_t>() + b * time, size_t(time)}, rule);
    limits.insert(limits.end(), own.begin(), own.end());
  }
  return Tensor::from<int32_t>({batch, int64_t(limits.size()) / batch}, limits);
}

}  // namespace reverie
