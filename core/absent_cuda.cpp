// A build without CUDA (REVERIE_CUDA=off).

#include "core/cuda.h"
#include "core/cuda_stream.h"
#include "core/error.h"
#include "core/staging_buffer.h"

namespace reverie::cuda {
namespace {

[[noreturn]] void refuse() {
  throw UserError(fmt::format("device cuda is not usable: {}", status().in_words));
}

}  // namespace

const Status& status() {
  static const Status s{Flavour::off, false,
                        "this build has no CUDA (build with cmake --preset cuda)"};
  return s;
}
int gpu_count() {
  return 0;
}
void use_gpu(int) {
  refuse();
}
std::string gpu_uuid() {
  return "";
}
Allocator& allocator(Device) {
  refuse();
}
void copy(void*, const void*, size_t, Direction) {
  refuse();
}
void clear(void*, size_t) {
  refuse();
}
void synchronize() {}

struct StagingBuffer::Implementation {};
StagingBuffer::StagingBuffer(size_t) {
  refuse();
}
StagingBuffer::~StagingBuffer() = default;
size_t StagingBuffer::bytes() const {
  return 0;
}
void* StagingBuffer::host() {
  return nullptr;
}
void StagingBuffer::upload() {}

void* stream() {
  return nullptr;
}

Event::Event() {
  refuse();
}
void Event::precedes_later_work() const {
  refuse();
}
bool Event::reached() const {
  refuse();
}
Stream::Stream() {
  refuse();
}
StreamScope::StreamScope(const Stream&) {
  refuse();
}
StreamScope::~StreamScope() = default;

}  // namespace reverie::cuda
