#pragma once
/// XXH3-128 of bytes that come in pieces; the same digits as core's hash_bytes() over all of them.

#include <cstddef>
#include <memory>
#include <string>

namespace reverie {

class StreamHasher {
 public:
  StreamHasher();
  ~StreamHasher();
  StreamHasher(StreamHasher&&) noexcept;
  StreamHasher& operator=(StreamHasher&&) noexcept;
  void update(const void* data, size_t bytes);
  std::string digits() const;  ///< 32 hexadecimal digits of what was seen so far

 private:
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace reverie
