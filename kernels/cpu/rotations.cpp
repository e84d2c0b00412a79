#include "kernels/cpu/rotations.h"

#include <algorithm>
#include <array>
#include <cmath>
#include <cstddef>
#include <vector>

#include "core/parallel.h"

namespace reverie::cpu {
namespace {

// Fewer numbers than this are not worth a parallel region.
constexpr int64_t kParallelNumbers = 1024;

template <class T>
class Table {
 public:
  int64_t last_use = 0;

  // Whether it is of these frequencies, and has no gap to [least, end).
  bool joins(const double* frequency, int64_t half, int64_t least, int64_t end) const {
    return int64_t(frequencies_.size()) == half && least <= end_ && end >= least_ &&
           std::equal(frequencies_.begin(), frequencies_.end(), frequency);
  }
  void start(const double* frequency, int64_t half, int64_t least) {
    frequencies_.assign(frequency, frequency + half);
    least_ = end_ = least;
  }
  const T* from(int64_t least, int64_t end) {
    if (least < least_) {  // computed anew, as far as it went
      end = std::max(end, end_);
      least_ = end_ = least;
    }
    if (end > end_) extend(end);
    return numbers_.data() + (least - least_) * entry();
  }

 private:
  int64_t entry() const { return 2 * int64_t(frequencies_.size()); }

  void extend(int64_t end) {
    const int64_t first = end_, half = entry() / 2;
    numbers_.resize(size_t((end - least_) * entry()));
    T* numbers = numbers_.data() + (first - least_) * entry();
    share_out(end - first, (end - first) * entry() >= kParallelNumbers, [&](int64_t i) {
      T *cosine = numbers + i * 2 * half, *sine = cosine + half;
      for (int64_t d = 0; d < half; ++d) {
        const double angle = double(first + i) * frequencies_[size_t(d)];
        cosine[d] = T(std::cos(angle));
        sine[d] = T(std::sin(angle));
      }
    });
    end_ = end;
  }

  std::vector<double> frequencies_;
  int64_t least_ = 0, end_ = 0;
  std::vector<T> numbers_;
};

}  // namespace

template <class T>
const T* rotations(const double* frequency, int64_t half, int64_t least, int64_t end) {
  // Layers may differ in frequencies (Gemma 3's do), and passes in where they begin.
  static thread_local std::array<Table<T>, 4> tables;
  static thread_local int64_t uses = 0;
  auto table = std::find_if(tables.begin(), tables.end(), [&](const Table<T>& t) {
    return t.joins(frequency, half, least, end);
  });
  if (table == tables.end()) {
    table = std::min_element(
        tables.begin(), tables.end(),
        [](const Table<T>& a, const Table<T>& b) { return a.last_use < b.last_use; });
    table->start(frequency, half, least);
  }
  table->last_use = ++uses;
  return table->from(least, end);
}

template const float* rotations<float>(const double*, int64_t, int64_t, int64_t);
template const double* rotations<double>(const double*, int64_t, int64_t, int64_t);

}  // namespace reverie::cpu
