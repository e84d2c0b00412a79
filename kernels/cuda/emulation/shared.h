#pragma once
/// Shared memory of an emulated block: an array that knows its bounds, starts as NaN in each block,
/// and remembers who touched each element since the last barrier.

#include <cstddef>
#include <cstdint>
#include <source_location>

#include "kernels/cuda/emulation/emulation.h"

namespace reverie::cuda::emulation {

/// One array of a block. Two threads race for an element if one of them writes it and no barrier
/// lies between: a barrier of the block, or of the warp that both belong to.
class SharedArray {
 public:
  /// The array that the declaration `tag` stands for in the running block, poisoned on first sight.
  static SharedArray& of(const void* tag, const char* name, size_t count, size_t element_bytes);

  void* touch_for_read(int64_t index, const std::source_location& where);
  void* touch_for_write(int64_t index, const std::source_location& where);

 private:
  struct Touch {
    int thread = -1;
    unsigned epoch = 0, warp_epoch = 0;
    std::source_location where;
  };
  struct Element {
    Touch write, read, other_read;  ///< the last ones; other_read by another thread than read
  };
  friend struct Arrays;

  void check_bounds(int64_t index, const std::source_location& where) const;
  void check_race(const Touch& earlier, const Touch& now, int64_t index, const char* did,
                  const char* does) const;
  Touch touch_now(const std::source_location& where) const;

  const char* name_ = "";
  size_t count_ = 0, element_bytes_ = 0;
  unsigned char* data_ = nullptr;
  Element* elements_ = nullptr;
};

/// An index that knows where it was written.
struct Index {
  template <class I>
  requires std::is_integral_v<I> Index(I i,
                                       std::source_location w = std::source_location::current())
      : value(int64_t(i)), where(w) {}
  int64_t value;
  std::source_location where;
};

/// What REVERIE_SHARED declares: reads and writes of elements by [], no pointers.
template <class T>
class Shared {
 public:
  class Reference {
   public:
    Reference(SharedArray& array, const Index& index) : array_(array), index_(index) {}
    operator T() const {
      return *static_cast<T*>(array_.touch_for_read(index_.value, index_.where));
    }
    const Reference& operator=(T value) const {
      *static_cast<T*>(array_.touch_for_write(index_.value, index_.where)) = value;
      return *this;
    }
    const Reference& operator=(const Reference& other) const { return *this = T(other); }
    const Reference& operator+=(T value) const { return *this = T(*this) + value; }

   private:
    SharedArray& array_;
    const Index& index_;
  };

  Shared(const void* tag, const char* name, size_t count)
      : array_(SharedArray::of(tag, name, count, sizeof(T))) {}
  Reference operator[](const Index& index) const { return {array_, index}; }

 private:
  SharedArray& array_;
};

/// For the emulation's scheduler.
void begin_block();  ///< arrays of earlier blocks are gone
void advance_warp_epoch(int warp);

}  // namespace reverie::cuda::emulation
