#include "kernels/cuda/emulation/emulation.h"

#include <setjmp.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include <algorithm>
#include <cstdlib>
#include <exception>
#include <memory>
#include <mutex>
#include <numeric>
#include <random>
#include <vector>

#include "core/emulated_cuda.h"
#include "core/error.h"
#include "kernels/cuda/emulation/shared.h"

#if defined(__SANITIZE_ADDRESS__)
#include <sanitizer/asan_interface.h>
#include <sanitizer/common_interface_defs.h>
#endif

namespace reverie::cuda::emulation {

Running running;

namespace {

constexpr size_t kStack = 256 * 1024;
constexpr int kMostThreads = 1024;

// Marks for the address sanitizer, which must know which stack is in use.
#if defined(__SANITIZE_ADDRESS__)
#define REVERIE_LEAVES_STACK(SAVED, BOTTOM, SIZE) \
  __sanitizer_start_switch_fiber(SAVED, BOTTOM, SIZE)
#define REVERIE_ENTERED_STACK(SAVED, BOTTOM, SIZE) \
  __sanitizer_finish_switch_fiber(SAVED, BOTTOM, SIZE)
#else
#define REVERIE_LEAVES_STACK(SAVED, BOTTOM, SIZE)
#define REVERIE_ENTERED_STACK(SAVED, BOTTOM, SIZE)
#endif

struct Fiber {
  Thread thread;
  ucontext_t context;
  jmp_buf place;
  bool started = false;
  unsigned char* stack = nullptr;
  [[maybe_unused]] void* fake_stack = nullptr;
};

// One launch at a time, as a GPU's stream: the mutex is held while it runs.
struct Machine {
  std::mutex mutex;
  std::vector<std::unique_ptr<Fiber>> fibers;  // started once, each runs thread after thread
  Fiber* current = nullptr;
  jmp_buf scheduler;
  const std::function<void()>* body = nullptr;
  std::exception_ptr error;
  unsigned schedule = 0;
  [[maybe_unused]] void* fake_stack = nullptr;
  [[maybe_unused]] const void* stack_bottom = nullptr;
  [[maybe_unused]] size_t stack_size = 0;
};
Machine& machine() {
  static auto* m = new Machine;  // fibers live as long as the program
  return *m;
}

std::string at(const std::source_location& where) {
  return fmt::format("{}:{}", where.file_name(), where.line());
}

// From a fiber to the scheduler; returns when the fiber is resumed.
[[gnu::noinline]] void leave(Fiber& f) {
  Machine& m = machine();
  REVERIE_LEAVES_STACK(&f.fake_stack, m.stack_bottom, m.stack_size);
  if (_setjmp(f.place) == 0) _longjmp(m.scheduler, 1);
  REVERIE_ENTERED_STACK(f.fake_stack, &m.stack_bottom, &m.stack_size);
}

void live() {
  Machine& m = machine();
  REVERIE_ENTERED_STACK(nullptr, &m.stack_bottom, &m.stack_size);
  for (;;) {
    Fiber& f = *m.current;
    try {
      (*m.body)();
    } catch (...) {
      if (!m.error) m.error = std::current_exception();
    }
    f.thread.wait = Wait::done;
    leave(f);
  }
}

[[gnu::noinline]] void resume(Fiber& f) {
  Machine& m = machine();
  m.current = &f;
  running.thread = &f.thread;
  REVERIE_LEAVES_STACK(&m.fake_stack, f.stack, kStack);
  if (_setjmp(m.scheduler) == 0) {
    if (f.started) _longjmp(f.place, 1);
    f.started = true;
    setcontext(&f.context);
  }
  REVERIE_ENTERED_STACK(m.fake_stack, nullptr, nullptr);
}

std::unique_ptr<Fiber> make_fiber() {
  auto f = std::make_unique<Fiber>();
  const size_t page = size_t(sysconf(_SC_PAGESIZE));
  void* memory = mmap(nullptr, kStack + page, PROT_READ | PROT_WRITE,
                      MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (memory == MAP_FAILED) throw MachineError("emulated cuda: no memory for a thread's stack");
  mprotect(memory, page, PROT_NONE);  // an overflow ends the program instead of damaging another
  f->stack = static_cast<unsigned char*>(memory) + page;
  getcontext(&f->context);
  f->context.uc_stack.ss_sp = f->stack;
  f->context.uc_stack.ss_size = kStack;
  f->context.uc_link = nullptr;
  makecontext(&f->context, live, 0);
  return f;
}

[[noreturn]] void throw_parted(const Thread& a, const Thread& b, const char* what) {
  const auto place = [](const Thread& t) {
    return t.wait == Wait::done
               ? fmt::format("thread {} has ended", t.number)
               : fmt::format("thread {} waits {} at {}", t.number,
                             t.wait == Wait::warp ? "for its warp" : "for its block", at(t.where));
  };
  throw Fault{fmt::format("{}: {}, but {}", what, place(a), place(b)),
              a.wait == Wait::done ? b.where : a.where};
}

bool together(const Thread& a, const Thread& b) {
  return a.wait == b.wait &&
         (a.wait == Wait::done || (a.where.line() == b.where.line() &&
                                   std::strcmp(a.where.file_name(), b.where.file_name()) == 0));
}

class Block {
 public:
  Block(int threads, std::mt19937& random) : threads_(threads), random_(random) {}

  void run() {
    Machine& m = machine();
    begin_block();
    running.epoch = 0;
    for (int i = 0; i < threads_; ++i)
      m.fibers[size_t(i)]->thread = {{unsigned(i), 0, 0}, i, Wait::none, {}, 0, {}};
    std::vector<int> order(static_cast<size_t>(threads_ / kWarp));
    std::iota(order.begin(), order.end(), 0);
    for (;;) {
      if (m.schedule != 0) std::shuffle(order.begin(), order.end(), random_);
      for (const int warp : order) run_warp(warp);
      for (int i = 1; i < threads_; ++i)
        if (!together(thread(0), thread(i)))
          throw_parted(thread(0), thread(i), "divergent barrier");
      if (thread(0).wait == Wait::done) return;
      ++running.epoch;
      for (int i = 0; i < threads_; ++i) thread(i).wait = Wait::none;
    }
  }

 private:
  static Thread& thread(int i) { return machine().fibers[size_t(i)]->thread; }

  // As far as the next barrier of the block, or to its end.
  void run_warp(int warp) {
    const int first = warp * kWarp;
    for (;;) {
      for (int i = first; i < first + kWarp; ++i) {
        resume(*machine().fibers[size_t(i)]);
        if (machine().error) std::rethrow_exception(machine().error);
      }
      for (int i = first + 1; i < first + kWarp; ++i)
        if (!together(thread(first), thread(i)))
          throw_parted(thread(first), thread(i), "divergent warp");
      if (thread(first).wait != Wait::warp) return;
      for (int i = first; i < first + kWarp; ++i) thread(i).wait = Wait::none;
    }
  }

  int threads_;
  std::mt19937& random_;
};

// Fibers that were left in the middle of a kernel start anew.
void abandon() {
  Machine& m = machine();
  const size_t page = size_t(sysconf(_SC_PAGESIZE));
  for (auto& f : m.fibers) {
#if defined(__SANITIZE_ADDRESS__)
    __asan_unpoison_memory_region(f->stack, kStack);
#endif
    munmap(f->stack - page, kStack + page);
  }
  m.fibers.clear();
  m.error = nullptr;
}

}  // namespace

void wait(Wait why, std::source_location where) {
  Fiber& f = *machine().current;
  f.thread.wait = why;
  f.thread.where = where;
  leave(f);
}

int offer_bytes(const void* bytes, size_t count, std::source_location where) {
  Thread& me = *running.thread;
  // By turns: nobody offers again before all have read what was offered before.
  const int turn = me.exchanges++ % 2;
  std::memcpy(me.offered[turn], bytes, count);
  wait(Wait::warp, where);
  return turn;
}

const unsigned char* offered_by(int lane, int turn) {
  const Thread& me = *running.thread;
  const int first = me.number / kWarp * kWarp;
  const bool own = lane < 0 || lane >= kWarp;
  return own ? me.offered[turn] : machine().fibers[size_t(first + lane)]->thread.offered[turn];
}

void order_warp(std::source_location where) {
  Thread& me = *running.thread;
  wait(Wait::warp, where);
  // All lanes have come; the first to go on begins the next stretch.
  if (me.number % kWarp == 0) advance_warp_epoch(me.number / kWarp);
}

void require_dynamic(size_t bytes, std::source_location where) {
  if (bytes > running.dynamic_bytes)
    throw Fault{fmt::format("{} bytes of shared memory, but the launch said {}", bytes,
                            running.dynamic_bytes),
                where};
}

void set_schedule(unsigned seed) {
  machine().schedule = seed;
}

void launch(Dim3 blocks, int threads, size_t dynamic_bytes, const std::function<void()>& thread,
            std::source_location where) {
  Machine& m = machine();
  const std::lock_guard lock(m.mutex);
  [[maybe_unused]] static const bool from_environment = [&] {
    if (const char* seed = std::getenv("REVERIE_CUDA_SCHEDULE"))
      m.schedule = unsigned(std::strtoul(seed, nullptr, 10));
    return true;
  }();
  if (threads % kWarp != 0 || threads < kWarp || threads > kMostThreads)
    throw InternalError(fmt::format("a launch of {} threads; wanted whole warps, at most {}",
                                    threads, kMostThreads),
                        where);
  while (int(m.fibers.size()) < threads) m.fibers.push_back(make_fiber());
  m.body = &thread;
  running.grid = blocks;
  running.block = {unsigned(threads), 1, 1};
  running.dynamic_bytes = dynamic_bytes;
  std::mt19937 random(m.schedule);
  const int64_t count = int64_t(blocks.x) * blocks.y * blocks.z;
  try {
    for (int64_t i = 0; i < count; ++i) {
      const int64_t b = m.schedule % 2 == 0 ? i : count - 1 - i;
      running.block_index = {unsigned(b % blocks.x), unsigned(b / blocks.x % blocks.y),
                             unsigned(b / blocks.x / blocks.y)};
      Block(threads, random).run();
    }
    if (const std::string damage = red_zone_damage(); !damage.empty())
      throw Fault{"device memory out of bounds: " + damage, where};
  } catch (const Fault& f) {
    abandon();
    throw InternalError(fmt::format("{}; the launch is at {}", f.what, at(where)), f.where);
  }
}

}  // namespace reverie::cuda::emulation
