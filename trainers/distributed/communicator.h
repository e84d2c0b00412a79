#pragma once
/// Collectives between the ranks of one training run.

#include <future>
#include <memory>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "trainers/distributed/sum_tree.h"
#include "trainers/distributed/transport.h"

namespace reverie {

enum class Reduction { sum, mean };

/// A collective under way.
class Pending {
 public:
  Pending() = default;  ///< done
  explicit Pending(std::shared_future<void> done) : done_(std::move(done)) {}
  /// Returns when the result is there; throws what went wrong.
  void wait() const {
    if (done_.valid()) done_.get();
  }

 private:
  std::shared_future<void> done_;
};

/// Every rank calls the same collectives, with tensors of the same shape and dtype (contiguous, f32
/// or f64 where they are added, on a device that takes() says), in the same order; which of them are
/// asynchronous does not matter. All may throw PeerError. Forms that only carry bytes are Transports
/// under PeerCommunicator; what carries those of device cuda is a DeviceTransport under
/// DeviceCommunicator.
class Communicator {
 public:
  virtual ~Communicator() = default;
  virtual int rank() const = 0;
  virtual int size() const = 0;
  virtual std::string kind() const = 0;  ///< "single", "threads", "tcp", "mpi", "tcp, nccl"
  /// Whether tensors on `device` may be given to it.
  virtual bool takes(Device device) const = 0;
  bool first() const { return rank() == 0; }

  virtual void broadcast(Tensor& values, int root) = 0;
  /// The sum over all terms of `tree` into `result`, on all ranks. `partials` are this rank's nodes,
  /// tree.nodes_of(rank()), each of the shape of `result`, and may be `result` itself; their
  /// contents are lost. Nothing may touch any of them before wait().
  virtual Pending sum_terms(const SumTree& tree, const std::vector<Tensor>& partials,
                            const Tensor& result) = 0;
  /// Rank r has elements begin[r] .. begin[r + 1] - 1 of `values`; then all have all.
  virtual void all_gather(Tensor& values, const std::vector<int64_t>& begin) = 0;
  /// The same, but only `root` gets them: `mine` are this rank's elements, `values` is looked at on
  /// `root` alone.
  virtual void gather(const Tensor& mine, const std::vector<int64_t>& begin, Tensor& values,
                      int root) = 0;
  /// Every rank's text, by rank.
  virtual std::vector<std::string> all_gather(const std::string& text) = 0;
  /// One message of bytes on the CPU to and from every rank.
  virtual void exchange(const Mail& mail) = 0;
  /// Not a collective: PeerError when another rank is gone, has failed, or gives no sign of life,
  /// while this one has waited `waited` seconds for what the others do.
  virtual void watch(double waited) = 0;
  /// Ranks wait for each other this many seconds without a sign of life.
  virtual void set_time_limit(double seconds) = 0;
  /// Ends the others, too: they throw PeerError with `reason`.
  virtual void abort(int exit_code, const std::string& reason) noexcept = 0;

  void all_reduce(Tensor& values, Reduction);
  virtual Pending all_reduce_async(const Tensor& values, Reduction) = 0;
  void barrier() { all_gather(std::string()); }

  /// Every rank is about to throw the same error: one of them may print it, and nobody need be told.
  void fail_together() { failing_together_ = true; }
  bool failing_together() const { return failing_together_; }

 private:
  bool failing_together_ = false;
};

/// One process, one rank.
Communicator& single_communicator();

/// Ranks that exchange bytes. Collectives run on a thread of their own, in the order in which they
/// were asked for.
std::shared_ptr<Communicator> make_communicator(std::unique_ptr<Transport>);

}  // namespace reverie
