#pragma once
/// How bytes get from rank to rank. What is done with them is the same for all forms, see
/// PeerCommunicator.

#include <atomic>
#include <cstddef>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/error.h"

namespace reverie {

/// A rank died, hangs, left, or sent what it should not have. The message names it.
class PeerError : public MachineError {
  using MachineError::MachineError;
};

/// One message to and one from every rank, by rank. Empty: none (both sides know). One's own is
/// ignored.
struct Mail {
  explicit Mail(int ranks) : send(size_t(ranks)), receive(size_t(ranks)) {}
  std::vector<std::span<const std::byte>> send;
  std::vector<std::span<std::byte>> receive;
};

/// Used by one thread at a time.
class Transport {
 public:
  virtual ~Transport() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string kind() const = 0;  ///< "threads", "tcp", "mpi"
  /// Sends and receives all of `mail`. Every rank makes its exchanges in the same order. PeerError
  /// when a rank it waits for is gone, has failed, or gives no sign of life for time_limit()
  /// seconds.
  virtual void exchange(const Mail& mail) = 0;
  /// Called about once a second between exchanges: a sign of life, so that ranks that wait while
  /// this one writes a checkpoint know that it is there.
  virtual void idle() {}
  /// The same while this rank waits, since `waited` seconds, for what others do by other means than
  /// exchanges: PeerError as there, about any of them. Called a few times a second.
  virtual void watch(double waited) = 0;
  /// Tells all others that this rank ends now, and why. Nothing can be exchanged afterwards.
  virtual void abort(int exit_code, const std::string& reason) noexcept = 0;

  double time_limit() const { return time_limit_; }
  void set_time_limit(double seconds) { time_limit_ = seconds; }

 private:
  std::atomic<double> time_limit_{60};
};

}  // namespace reverie
