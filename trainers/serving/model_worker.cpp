#include "trainers/serving/model_worker.h"

#include <chrono>

namespace reverie {
namespace {

// How long an idle worker may take to see that it should end: a signal wakes no condition variable.
constexpr std::chrono::milliseconds kLook{50};

constexpr const char* kEnding = "the server is ending: ask another one, or later";

}  // namespace

bool ModelWorker::submit(const std::shared_ptr<Completion>& completion) {
  {
    const std::lock_guard lock(mutex_);
    if (closed_) {
      completion->fail(503, kEnding);
      return false;
    }
    if (int64_t(waiting_.size()) >= limits_.queue) {
      completion->fail(503, "too many requests are waiting (--queue): try again later");
      return false;
    }
    waiting_.push_back({completion, 0});
  }
  work_.notify_one();
  return true;
}

// Prompts whose turn it is: of waiting requests in their order, as many as there is room for.
std::vector<PromptJob> ModelWorker::take() {
  std::unique_lock lock(mutex_);
  if (waiting_.empty() && writer_.texts() == 0) work_.wait_for(lock, kLook);
  std::vector<PromptJob> jobs;
  int64_t texts = writer_.texts();
  while (!waiting_.empty() && int64_t(jobs.size()) < limits_.prompts) {
    Waiting& first = waiting_.front();
    const CompletionRequest& request = first.completion->request;
    if (Completion::Clock::now() > first.completion->deadline)
      first.completion->fail(504,
                             "the request waited longer than the server allows (--time-limit)");
    if (first.completion->over() || first.next_prompt == int64_t(request.prompts.size())) {
      waiting_.pop_front();
      continue;
    }
    // Texts of at most one token are over at once: they take no room beside others.
    const int64_t more = request.max_tokens > 1 ? request.samples : 0;
    if (texts > 0 && texts + more > limits_.texts) break;
    texts += more;
    jobs.push_back({first.completion, first.next_prompt++});
  }
  return jobs;
}

// All that was not begun; what stays has prompts that still want their turn. -> whether any does.
bool ModelWorker::refuse_waiting() {
  const std::lock_guard lock(mutex_);
  closed_ = true;
  for (const Waiting& one : waiting_)
    if (one.next_prompt == 0) one.completion->fail(503, kEnding);
  std::erase_if(waiting_, [](const Waiting& one) { return one.next_prompt == 0; });
  return !waiting_.empty();
}

void ModelWorker::run(const std::function<bool()>& ending) {
  while (true) {
    if (ending() && !refuse_waiting() && writer_.texts() == 0) return;
    writer_.begin(take());
    writer_.step();
  }
}

}  // namespace reverie
