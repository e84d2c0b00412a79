#include <algorithm>

#include "core/error.h"
#include "trainers/distributed/device_transport.h"

namespace reverie {
namespace {

template <class T>
void sum_elements(std::byte* sum, const std::byte* term, size_t bytes) {
  for (size_t i = 0; i < bytes / sizeof(T); ++i)
    reinterpret_cast<T*>(sum)[i] += reinterpret_cast<const T*>(term)[i];
}

class EmulatedTransport final : public DeviceTransport {
 public:
  explicit EmulatedTransport(Communicator& host) : host_(host) {}
  std::string kind() const override { return "emulated"; }
  void exchange(const Mail& mail) override { host_.exchange(mail); }

  // From the last rank to the first, which is no tree's order: a sum that comes here and must not
  // is found out.
  void all_reduce(Tensor& values) override {
    auto* at = static_cast<std::byte*>(values.mutable_raw());
    const size_t ranks = size_t(host_.size()), bytes = values.bytes();
    std::vector<std::vector<std::byte>> terms(ranks, std::vector<std::byte>(bytes));
    terms[size_t(host_.rank())].assign(at, at + bytes);
    Mail mail(host_.size());
    for (size_t r = 0; r < ranks; ++r) {
      mail.send[r] = terms[size_t(host_.rank())];
      mail.receive[r] = terms[r];
    }
    host_.exchange(mail);
    std::copy(terms.back().begin(), terms.back().end(), at);
    for (size_t r = ranks - 1; r-- > 0;) {
      if (values.dtype() == DType::f64)
        sum_elements<double>(at, terms[r].data(), bytes);
      else
        sum_elements<float>(at, terms[r].data(), bytes);
    }
  }
  void check() override {}
  void abort() noexcept override {}

 private:
  Communicator& host_;
};

}  // namespace

std::unique_ptr<DeviceTransport> make_emulated_transport(Communicator& host) {
  return std::make_unique<EmulatedTransport>(host);
}

}  // namespace reverie
