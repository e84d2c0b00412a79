#include "trainers/generation/latents_aside.h"

#include <fmt/format.h>
#include <omp.h>
#include <signal.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <exception>
#include <mutex>
#include <new>
#include <span>
#include <thread>
#include <utility>
#include <vector>

#include "autograd/precision.h"
#include "core/cuda_stream.h"
#include "core/error.h"
#include "core/forked_copy.h"
#include "core/parallel.h"

namespace reverie {
namespace {

using Clock = std::chrono::steady_clock;
double seconds_since(Clock::time_point begun) {
  return std::chrono::duration<double>(Clock::now() - begun).count();
}

std::atomic<int64_t> threads_left{0};

bool on_gpu(const AugmentedModel& model) {
  return model.head().tensor().device().kind == DeviceKind::cuda;
}

// What the thread that makes latents and the one that writes share. The last of the two frees it.
struct SharedLatents {
  std::shared_ptr<AugmentedModel> model;
  AugmentedModel::Text text;
  MakeLatents make;
  MatmulPrecision precision = MatmulPrecision::full;
  int threads = 1;
  std::unique_ptr<cuda::Event> asked;  // the text is whole; on a GPU

  std::mutex mutex = {};
  std::condition_variable over = {};
  bool ended = false, left = false;
  Variable latents = {};
  std::string failure = {};
  Clock::time_point begun = Clock::now();
  double seconds = 0;
};

// Width of a latent that goes into the cache.
int64_t cache_width(const AugmentedModel::Text& text) {
  int64_t width = 0;
  for (const LayerKeyValues& layer : text.keys.layers)
    width += layer.key.size(2) + layer.value.size(2);
  return width;
}

// The coprocessor's latents. UserError for some that no text can read: broken ones must not reach it.
Variable usable_latents(AugmentedModel& model, const AugmentedModel::Text& text,
                        const MakeLatents& make) {
  const Variable latents = make(model, text);
  const Shape wanted{text.hidden.size(0), model.source().count(),
                     model.source().writes_cache() ? cache_width(text) : text.hidden.size(2)};
  require(latents && latents.shape() == wanted && latents.dtype() == text.hidden.dtype(),
          "it gave latents {}, wanted {} {}", latents ? latents.tensor().str() : "(none)",
          name_of(text.hidden.dtype()), wanted.str());
  for (const double number : latents.tensor().to_vector())
    require(std::isfinite(number), "its latents are not finite: its weights are broken");
  return latents;
}

// On the thread that makes them; nothing leaves it but through `shared`.
Variable made_on_stream(SharedLatents& shared) {
  if (!shared.asked) return usable_latents(*shared.model, shared.text, shared.make);
  const cuda::Stream stream;
  const cuda::StreamScope scope(stream);
  shared.asked->precedes_later_work();
  Variable latents;
  std::exception_ptr failure;
  try {
    latents = usable_latents(*shared.model, shared.text, shared.make);
  } catch (...) {
    failure = std::current_exception();
  }
  // Memory goes back, or to the other thread, when no kernel of this stream reads it any more.
  const cuda::Event over;
  while (!over.reached()) std::this_thread::sleep_for(std::chrono::microseconds(50));
  shared.text = {};
  if (failure) std::rethrow_exception(failure);
  return latents;
}

void make_latents(const std::shared_ptr<SharedLatents>& shared) {
  const NoGrad no_grad;
  const MatmulPrecisionScope precision(shared->precision);
  omp_set_num_threads(shared->threads);
  Variable latents;
  std::string failure;
  try {
    latents = made_on_stream(*shared);
  } catch (const std::bad_alloc&) {
    failure = "out of memory";
  } catch (const std::exception& e) {
    failure = e.what();
  } catch (...) {
    failure = "threw an object that is no std::exception, so there is no message";
  }
  const std::lock_guard lock(shared->mutex);
  shared->latents = std::move(latents);
  shared->failure = std::move(failure);
  shared->seconds = seconds_since(shared->begun);
  shared->ended = true;
  if (shared->left) --threads_left;
  shared->over.notify_all();
}

// Signals go to the threads that expect them.
class SignalsBlocked {
 public:
  SignalsBlocked() {
    sigset_t all;
    ::sigfillset(&all);
    for (const int fault : {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT}) ::sigdelset(&all, fault);
    ::pthread_sigmask(SIG_SETMASK, &all, &before_);
  }
  ~SignalsBlocked() { ::pthread_sigmask(SIG_SETMASK, &before_, nullptr); }
  SignalsBlocked(const SignalsBlocked&) = delete;
  SignalsBlocked& operator=(const SignalsBlocked&) = delete;

 private:
  sigset_t before_;
};

// The shape in front of the numbers; f64 holds the smaller types exactly.
std::vector<double> as_values(const Tensor& latents) {
  std::vector<double> values;
  for (int i = 0; i < 3; ++i) values.push_back(double(latents.size(i)));
  const std::vector<double> numbers = latents.to_vector();
  values.insert(values.end(), numbers.begin(), numbers.end());
  return values;
}
Variable from_values(const std::vector<double>& values, DType dtype) {
  const Shape shape{int64_t(values.at(0)), int64_t(values.at(1)), int64_t(values.at(2))};
  return Variable(Tensor::from<double>(shape, std::span(values).subspan(3)).to(dtype));
}
// Most values of as_values().
size_t most_values(AugmentedModel& model, const AugmentedModel::Text& text) {
  return size_t(3 + text.hidden.size(0) * model.source().count() *
                        std::max(text.hidden.size(2), cache_width(text)));
}

}  // namespace

// A coprocessor at work.
class LatentsAside::Task {
 public:
  virtual ~Task() = default;
  virtual bool ended_within(double seconds) = 0;
  // Once it has ended: undefined where it failed.
  virtual Variable latents() = 0;
  virtual std::string failure() = 0;
  virtual double seconds() = 0;
};

namespace {

class ThreadTask final : public LatentsAside::Task {
 public:
  explicit ThreadTask(std::shared_ptr<SharedLatents> shared) : shared_(std::move(shared)) {
    const SignalsBlocked blocked;
    thread_ = std::thread(make_latents, shared_);
  }
  ~ThreadTask() override {
    {
      const std::lock_guard lock(shared_->mutex);
      if (!shared_->ended) {
        shared_->left = true;
        ++threads_left;
      }
    }
    if (shared_->left)
      thread_.detach();
    else
      thread_.join();
  }
  bool ended_within(double seconds) override {
    std::unique_lock lock(shared_->mutex);
    return shared_->over.wait_for(lock, std::chrono::duration<double>(seconds),
                                  [&] { return shared_->ended; });
  }
  Variable latents() override { return shared_->latents; }
  std::string failure() override { return shared_->failure; }
  double seconds() override { return shared_->seconds; }

 private:
  std::shared_ptr<SharedLatents> shared_;
  std::thread thread_;
};

class ProcessTask final : public LatentsAside::Task {
 public:
  ProcessTask(AugmentedModel& model, const MakeLatents& make, const AugmentedModel::Text& text)
      : dtype_(text.hidden.dtype()), copy_(most_values(model, text), [&] {
          return as_values(usable_latents(model, text, make).tensor());
        }) {}
  bool ended_within(double seconds) override {
    const bool ended = copy_.ended_within(seconds);
    if (ended && seconds_ == 0) seconds_ = seconds_since(begun_);
    return ended;
  }
  Variable latents() override {
    const auto values = copy_.values();
    return values ? from_values(*values, dtype_) : Variable();
  }
  std::string failure() override { return copy_.failure(); }
  double seconds() override { return seconds_; }

 private:
  DType dtype_;
  Clock::time_point begun_ = Clock::now();
  double seconds_ = 0;
  ForkedCopy copy_;
};

}  // namespace

LatentsAside::LatentsAside(std::shared_ptr<AugmentedModel> model, const AsideOptions& options,
                           MakeLatents make)
    : LatentSupplier(*model), kept_(std::move(model)), options_(options), make_(std::move(make)) {
  require(options_.late.value_or(0) >= 0, "latents_late is {}, wanted 0 or more",
          options_.late.value_or(0));
  require(options_.longest_wait >= 0, "the longest wait is {} seconds, wanted 0 or more",
          options_.longest_wait);
  require(options_.where == Aside::thread || !on_gpu(model_),
          "a copy of the process cannot use a GPU: let the coprocessor run on a thread");
  if (model_.training())
    throw InternalError("latents are made aside in eval mode, where nothing changes the model");
  if (!make_)
    make_ = [](AugmentedModel& m, const AugmentedModel::Text& text) { return m.latents_for(text); };
}

LatentsAside::~LatentsAside() = default;

void LatentsAside::begin(const SequenceState& read, const Variable& hidden, const Tensor& tokens) {
  if (task_) throw InternalError("latents were made aside already: a supplier serves one text");
  AugmentedModel::Text text = model_.snapshot(read, hidden, tokens);
  if (options_.where == Aside::process) {
    task_ = std::make_unique<ProcessTask>(model_, make_, text);
    return;
  }
  auto shared = std::make_shared<SharedLatents>();
  shared->model = kept_;
  shared->text = std::move(text);
  shared->make = make_;
  shared->precision = matmul_precision();
  shared->threads = thread_count();
  if (on_gpu(model_)) shared->asked = std::make_unique<cuda::Event>();
  task_ = std::make_unique<ThreadTask>(std::move(shared));
}

bool LatentsAside::ended_within(double seconds) {
  if (!task_ || !task_->ended_within(seconds)) return false;
  if (report_.failure.empty()) report_.failure = task_->failure();
  if (report_.failure.empty()) report_.seconds = task_->seconds();
  return true;
}

Variable LatentsAside::due(int64_t written) {
  if (!report_.failure.empty() || (options_.late ? written != *options_.late : written == 0))
    return {};
  if (!ended_within(options_.late ? options_.longest_wait : 0)) {
    if (options_.late)
      report_.failure = fmt::format("no latents after {} seconds", options_.longest_wait);
    return {};
  }
  return task_->latents();
}

int64_t LatentsAside::left_alone() {
  return threads_left;
}

}  // namespace reverie
