#pragma once
/// Sizes of a tensor's dimensions, without heap allocation.

#include <array>
#include <cstdint>
#include <initializer_list>
#include <string>

#include "core/error.h"

namespace reverie {

inline constexpr int kMaxRank = 6;

class Shape {
 public:
  Shape() = default;
  Shape(std::initializer_list<int64_t> dims) {
    require(dims.size() <= kMaxRank, "a tensor has at most {} dimensions, got {}", kMaxRank,
            dims.size());
    for (int64_t d : dims) dims_[size_t(rank_++)] = d;
  }
  int rank() const { return rank_; }
  /// Negative indices count from the end, as in shape[-1].
  int64_t operator[](int i) const { return dims_[size_t(i < 0 ? i + rank_ : i)]; }
  int64_t& operator[](int i) { return dims_[size_t(i < 0 ? i + rank_ : i)]; }
  const int64_t* begin() const { return dims_.data(); }
  const int64_t* end() const { return dims_.data() + rank_; }
  void push_back(int64_t d) {
    require(rank_ < kMaxRank, "a tensor has at most {} dimensions", kMaxRank);
    dims_[size_t(rank_++)] = d;
  }
  int64_t numel() const {
    int64_t n = 1;
    for (int64_t d : *this) n *= d;
    return n;
  }
  bool operator==(const Shape& o) const {
    if (rank_ != o.rank_) return false;
    for (int i = 0; i < rank_; ++i)
      if (dims_[size_t(i)] != o.dims_[size_t(i)]) return false;
    return true;
  }
  std::string str() const;  ///< "[2, 3]"

 private:
  std::array<int64_t, kMaxRank> dims_{};
  int rank_ = 0;
};

}  // namespace reverie

/// So that require(.., shape) makes its text only where it throws.
template <>
struct fmt::formatter<reverie::Shape> {
  constexpr auto parse(fmt::format_parse_context& context) { return context.begin(); }
  template <class FormatContext>
  auto format(const reverie::Shape& shape, FormatContext& context) const {
    return fmt::format_to(context.out(), "{}", shape.str());
  }
};
