#pragma once
/// The queue in front of the model, and the loop of the one thread that uses it.

#include <condition_variable>
#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <mutex>

#include "trainers/serving/text_writer.h"

namespace reverie {

struct WorkerLimits {
  int64_t queue = 256;   ///< requests that wait
  int64_t texts = 32;    ///< texts that are written side by side
  int64_t prompts = 64;  ///< prompts that are read before the texts go on
};

class ModelWorker {
 public:
  ModelWorker(ServedModel& model, const WorkerLimits& limits) : writer_(model), limits_(limits) {}

  /// From any thread. False: the queue is full, or the server is ending; the completion says so.
  bool submit(const std::shared_ptr<Completion>& completion);

  /// Until `ending` (asked between two tokens): then what was begun is finished, what waits is
  /// refused (503), and it returns.
  void run(const std::function<bool()>& ending);

 private:
  std::vector<PromptJob> take();
  bool refuse_waiting();

  TextWriter writer_;
  WorkerLimits limits_;
  std::mutex mutex_;
  std::condition_variable work_;
  struct Waiting {
    std::shared_ptr<Completion> completion;
    int64_t next_prompt = 0;
  };
  std::deque<Waiting> waiting_;
  bool closed_ = false;
};

}  // namespace reverie
