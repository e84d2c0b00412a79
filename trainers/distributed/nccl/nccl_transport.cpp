#include "trainers/distributed/nccl/nccl_transport.h"

#include <nccl.h>

#include <cstring>
#include <type_traits>

#include "core/cuda.h"
#include "core/error.h"
#include "trainers/distributed/polling.h"

namespace reverie {
namespace {

std::string version_text(int code) {
  return fmt::format("NCCL {}.{}.{}", code / 10000, code / 100 % 100, code % 100);
}

// Calls of a communicator that does not block may return before they are under way: whatever
// follows on the stream must wait until they are, and a rank that died is noticed meanwhile.
class NcclTransport final : public DeviceTransport {
 public:
  explicit NcclTransport(Communicator& host) : host_(host) {
    cuda::stream();  // this thread is bound to the GPU
    const ncclUniqueId id = agreed_id();
    ncclConfig_t config = NCCL_CONFIG_INITIALIZER;
    config.blocking = 0;
    try {
      finish(ncclCommInitRankConfig(&comm_, host.size(), id, host.rank(), &config), "beginning");
    } catch (...) {
      abort();
      throw;
    }
  }

  ~NcclTransport() override {
    if (!comm_) return;
    // In good order, but not for long: another rank may be gone.
    ncclResult_t state = ncclCommFinalize(comm_);
    try {
      poll_until([&] { return !in_progress(state); },
                 [](double waited) {
                   if (waited > 5) throw PeerError("NCCL: the ranks do not finish their exchanges");
                 });
    } catch (const PeerError&) {
    }
    if (state == ncclSuccess)
      (void)ncclCommDestroy(comm_);
    else
      abort();
  }

  std::string kind() const override { return "nccl"; }

  void exchange(const Mail& mail) override {
    require_comm();
    const auto stream = static_cast<cudaStream_t>(cuda::stream());
    require_started(ncclGroupStart(), "a group");
    ncclResult_t result = ncclSuccess;
    const auto add = [&](ncclResult_t one) {
      if (one != ncclInProgress && result == ncclSuccess) result = one;
    };
    for (int r = 0; r < host_.size(); ++r) {
      if (r == host_.rank()) continue;
      const auto& send = mail.send[size_t(r)];
      const auto& receive = mail.receive[size_t(r)];
      if (!send.empty()) add(ncclSend(send.data(), send.size(), ncclInt8, r, comm_, stream));
      if (!receive.empty())
        add(ncclRecv(receive.data(), receive.size(), ncclInt8, r, comm_, stream));
    }
    const ncclResult_t whole = ncclGroupEnd();
    finish(result != ncclSuccess ? result : whole, "an exchange");
  }

  void all_reduce(Tensor& values) override {
    require_comm();
    void* at = values.mutable_raw();
    finish(ncclAllReduce(at, at, size_t(values.numel()),
                         values.dtype() == DType::f64 ? ncclFloat64 : ncclFloat32, ncclSum, comm_,
                         static_cast<cudaStream_t>(cuda::stream())),
           "a sum");
  }

  void check() override {
    require_comm();
    ncclResult_t state = ncclSuccess;
    require_started(ncclCommGetAsyncError(comm_, &state), "a look at its state");
    if (state != ncclSuccess && state != ncclInProgress) fail(state, "work on the device");
  }

  void abort() noexcept override {
    if (comm_) (void)ncclCommAbort(comm_);
    comm_ = nullptr;
  }

 private:
  // The first rank's.
  ncclUniqueId agreed_id() {
    static_assert(std::is_trivially_copyable_v<ncclUniqueId>);
    ncclUniqueId id{};
    if (host_.first()) require_started(ncclGetUniqueId(&id), "making an identifier");
    const std::string text =
        host_.all_gather(std::string(reinterpret_cast<const char*>(&id), sizeof id))[0];
    require(text.size() == sizeof id, "NCCL: an identifier of {} bytes, wanted {}", text.size(),
            sizeof id);
    std::memcpy(&id, text.data(), sizeof id);
    return id;
  }

  // The state of what is under way, in `state`, which is an error where it cannot be asked for.
  bool in_progress(ncclResult_t& state) const {
    if (state != ncclInProgress) return false;
    if (const ncclResult_t asked = ncclCommGetAsyncError(comm_, &state); asked != ncclSuccess)
      state = asked;
    return state == ncclInProgress;
  }
  void finish(ncclResult_t state, const char* what) {
    poll_until([&] { return !in_progress(state); }, [&](double waited) { host_.watch(waited); });
    if (state != ncclSuccess) fail(state, what);
  }
  void require_started(ncclResult_t result, const char* what) const {
    if (result != ncclSuccess) fail(result, what);
  }
  void require_comm() const {
    if (!comm_) throw PeerError("NCCL: this rank has ended its exchanges");
  }
  [[noreturn]] void fail(ncclResult_t result, const char* what) const {
    const char* last = ncclGetLastError(comm_);
    throw MachineError(fmt::format("NCCL: {} failed: {}{}{} (NCCL_DEBUG=WARN says more)", what,
                                   ncclGetErrorString(result), last && *last ? ": " : "",
                                   last ? last : ""));
  }

  Communicator& host_;
  ncclComm_t comm_ = nullptr;
};

}  // namespace

std::string nccl_library() {
  int code = 0;
  return ncclGetVersion(&code) == ncclSuccess ? version_text(code)
                                              : version_text(NCCL_VERSION_CODE);
}

std::unique_ptr<DeviceTransport> make_nccl_transport(Communicator& host) {
  return std::make_unique<NcclTransport>(host);
}

}  // namespace reverie
