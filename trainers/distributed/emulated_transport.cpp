#include "core/error.h"
#include "trainers/distributed/device_transport.h"

namespace reverie {
namespace {

class EmulatedTransport final : public DeviceTransport {
 public:
  explicit EmulatedTransport(Communicator& host) : host_(host) {}
  std::string kind() const override { return "emulated"; }
  void exchange(const Mail& mail) override { host_.exchange(mail); }
  void all_reduce(Tensor& values) override {
    const auto memory =
        std::make_shared<Storage>(values.mutable_raw(), values.bytes(), Device{}, [] {});
    Tensor on_host = Tensor::over(memory, values.shape(), values.dtype());
    host_.all_reduce(on_host, Reduction::sum);
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
