#pragma once
/// Work that goes on beside the device's own: what ranks send each other while kernels run. Where
/// the device is emulated all work is done at once, and these order nothing.

#include <memory>

namespace reverie::cuda {

/// A point in the order of work: all that was asked for on the stream in use when it was made.
class Event {
 public:
  Event();
  /// Work that is asked for from now on, on the stream in use, begins after it.
  void precedes_later_work() const;
  /// Whether all of it is done. MachineError where it failed.
  bool reached() const;

 private:
  std::shared_ptr<void> event_;  ///< cudaEvent_t
};

/// A second order of work.
class Stream {
 public:
  Stream();

 private:
  friend class StreamScope;
  std::shared_ptr<void> stream_;  ///< cudaStream_t
};

/// While it lives, `stream` is the one in use: what this thread asks of the device (kernels, copies,
/// memory and its return) is put there. Memory that is handed out or used there must go back there,
/// or after an Event on it was reached.
class StreamScope {
 public:
  explicit StreamScope(const Stream& stream);
  ~StreamScope();
  StreamScope(const StreamScope&) = delete;
  StreamScope& operator=(const StreamScope&) = delete;

 private:
  void* before_ = nullptr;
};

}  // namespace reverie::cuda
