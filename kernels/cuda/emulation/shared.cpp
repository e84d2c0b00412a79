#include "kernels/cuda/emulation/shared.h"

#include <cstring>
#include <map>
#include <memory>
#include <vector>

#include "core/error.h"

namespace reverie::cuda::emulation {
namespace {

unsigned warp_epochs[1024 / kWarp];

std::string at(const std::source_location& where) {
  return fmt::format("{}:{}", where.file_name(), where.line());
}

}  // namespace

// Arrays by declaration; their memory is kept for the next block.
struct Arrays {
  struct Entry {
    SharedArray array;
    std::vector<unsigned char> data;
    std::vector<SharedArray::Element> elements;
    bool fresh = true;
  };
  std::map<const void*, Entry> by_tag;

  static Arrays& get() {
    static Arrays a;
    return a;
  }
};

void begin_block() {
  for (auto& [tag, entry] : Arrays::get().by_tag) entry.fresh = true;
  std::memset(warp_epochs, 0, sizeof(warp_epochs));
}
void advance_warp_epoch(int warp) {
  ++warp_epochs[warp];
}

SharedArray& SharedArray::of(const void* tag, const char* name, size_t count,
                             size_t element_bytes) {
  Arrays::Entry& e = Arrays::get().by_tag[tag];
  if (e.fresh) {
    e.data.assign(count * element_bytes, 0xff);
    e.elements.assign(count, {});
    e.array.name_ = name;
    e.array.count_ = count;
    e.array.element_bytes_ = element_bytes;
    e.array.data_ = e.data.data();
    e.array.elements_ = e.elements.data();
    e.fresh = false;
  }
  return e.array;
}

SharedArray::Touch SharedArray::touch_now(const std::source_location& where) const {
  const int thread = running.thread->number;
  return {thread, running.epoch, warp_epochs[thread / kWarp], where};
}

void SharedArray::check_bounds(int64_t index, const std::source_location& where) const {
  if (index < 0 || size_t(index) >= count_)
    throw Fault{fmt::format("shared memory out of bounds: {}[{}] of {} elements, thread {}", name_,
                            index, count_, running.thread->number),
                where};
}

void SharedArray::check_race(const Touch& earlier, const Touch& now, int64_t index, const char* did,
                             const char* does) const {
  if (earlier.thread < 0 || earlier.thread == now.thread || earlier.epoch != now.epoch) return;
  if (earlier.thread / kWarp == now.thread / kWarp && earlier.warp_epoch != now.warp_epoch) return;
  throw Fault{fmt::format("shared memory race: thread {} {} {}[{}], which thread {} {} at {} with "
                          "no barrier between",
                          now.thread, does, name_, index, earlier.thread, did, at(earlier.where)),
              now.where};
}

void* SharedArray::touch_for_read(int64_t index, const std::source_location& where) {
  check_bounds(index, where);
  Element& e = elements_[index];
  const Touch now = touch_now(where);
  check_race(e.write, now, index, "wrote", "reads");
  if (e.read.thread != now.thread) e.other_read = e.read;
  e.read = now;
  return data_ + size_t(index) * element_bytes_;
}

void* SharedArray::touch_for_write(int64_t index, const std::source_location& where) {
  check_bounds(index, where);
  Element& e = elements_[index];
  const Touch now = touch_now(where);
  check_race(e.write, now, index, "wrote", "writes");
  check_race(e.read, now, index, "read", "writes");
  check_race(e.other_read, now, index, "read", "writes");
  e.write = now;
  return data_ + size_t(index) * element_bytes_;
}

}  // namespace reverie::cuda::emulation
