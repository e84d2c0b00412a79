#pragma once
/// How the bytes of tensors on device cuda get from rank to rank. What is done with them is
/// DeviceCommunicator's.

#include <memory>
#include <string>

#include "core/tensor.h"
#include "trainers/distributed/communicator.h"
#include "trainers/distributed/transport.h"

namespace reverie {

/// Everything is put on the stream in use (core/cuda_stream.h) and done in its order; every rank
/// asks for the same, in the same order. Used by one thread at a time.
class DeviceTransport {
 public:
  virtual ~DeviceTransport() = default;
  virtual std::string kind() const = 0;  ///< "nccl", "emulated"
  /// As Transport's, with memory of the device.
  virtual void exchange(const Mail& mail) = 0;
  /// values [n], f32 or f64, become their sum over the ranks, the same on all; terms are added in
  /// whatever order is fastest.
  virtual void all_reduce(Tensor& values) = 0;
  /// MachineError where what was asked for has failed since.
  virtual void check() = 0;
  /// Ends what this rank has asked for; nothing can be asked for afterwards.
  virtual void abort() noexcept = 0;
};

/// Where the device is emulated its memory is the host's, and `host` carries it.
std::unique_ptr<DeviceTransport> make_emulated_transport(Communicator& host);

}  // namespace reverie
