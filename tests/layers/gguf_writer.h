#pragma once
// GGUF files for tests.

#include <string>

#include "core/tensor.h"
#include "pretrained_support.h"

namespace reverie::testing {

// Just enough of a GGUF (version 3) writer: metadata of four kinds, and f32 tensors.
class GgufWriter {
 public:
  void text(const std::string& key, const std::string& value) {
    begin(key, 8);
    string(metadata_, value);
  }
  void integer(const std::string& key, uint32_t value) {
    begin(key, 4);
    put(metadata_, value);
  }
  void number(const std::string& key, float value) {
    begin(key, 6);
    put(metadata_, value);
  }
  void boolean(const std::string& key, bool value) {
    begin(key, 7);
    put(metadata_, uint8_t(value));
  }
  void tensor(const std::string& name, const Tensor& t) {
    const Tensor values = t.contiguous().to(DType::f32);
    string(infos_, name);
    put(infos_, uint32_t(t.rank()));
    for (int d = t.rank() - 1; d >= 0; --d) put(infos_, uint64_t(t.size(d)));
    put(infos_, uint32_t(0));
    put(infos_, uint64_t(data_.size()));
    data_.append(static_cast<const char*>(values.raw()), values.bytes());
    data_.resize((data_.size() + 31) / 32 * 32);
    ++tensors_;
  }
  void save(const std::string& file) const {
    std::string out = "GGUF";
    put(out, uint32_t(3));
    put(out, tensors_);
    put(out, values_);
    out += metadata_ + infos_;
    out.resize((out.size() + 31) / 32 * 32);
    write(file, out + data_);
  }

 private:
  template <class T>
  static void put(std::string& to, T value) {
    to.append(reinterpret_cast<const char*>(&value), sizeof(value));
  }
  static void string(std::string& to, const std::string& s) {
    put(to, uint64_t(s.size()));
    to += s;
  }
  void begin(const std::string& key, uint32_t type) {
    string(metadata_, key);
    put(metadata_, type);
    ++values_;
  }
  std::string metadata_, infos_, data_;
  uint64_t tensors_ = 0, values_ = 0;
};

}  // namespace reverie::testing
