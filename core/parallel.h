#pragma once
/// Parallel loops (OpenMP). All is of internal linkage: files that include it are compiled for
/// several instruction sets, and must not share code.

#include <omp.h>

#include <cstdint>

namespace reverie {

/// How many threads the next parallel loop may have.
static inline int thread_count() {
  return omp_get_max_threads();
}

// gcc's OpenMP runtime is not built for the thread sanitizer, which therefore does not see that a
// parallel region begins after what came before it and ends before what follows. These marks say
// so; what threads do to each other inside a region stays watched. The function that holds the
// region is itself not instrumented (the compiler passes its variables to the threads in ways that
// no mark can precede); the bodies it calls are.
#if defined(__SANITIZE_THREAD__)
extern "C" void __tsan_acquire(void*);
extern "C" void __tsan_release(void*);
#define REVERIE_HOLDS_REGION __attribute__((no_sanitize("thread")))
#define REVERIE_MARK(ACTION, PLACE) __tsan_##ACTION(&(PLACE))
#else
#define REVERIE_HOLDS_REGION
#define REVERIE_MARK(ACTION, PLACE)
#endif

/// body(i) for i in [0, n), in equal runs of i for each thread; by the caller alone unless
/// `parallel`. No exception may leave a body.
template <class Body>
REVERIE_HOLDS_REGION static inline void share_out(int64_t n, bool parallel, const Body& body) {
  [[maybe_unused]] char begun = 0, ended = 0;
  REVERIE_MARK(release, begun);
#pragma omp parallel if (parallel)
  {
    REVERIE_MARK(acquire, begun);
#pragma omp for schedule(static) nowait
    for (int64_t i = 0; i < n; ++i) body(i);
    REVERIE_MARK(release, ended);
  }
  REVERIE_MARK(acquire, ended);
}

/// ... where some i take longer than others: each thread takes the next i that is left. Long ones
/// should come first. A body must do the same whichever thread it runs on.
template <class Body>
REVERIE_HOLDS_REGION static inline void share_out_unequal(int64_t n, bool parallel,
                                                          const Body& body) {
  [[maybe_unused]] char begun = 0, ended = 0;
  REVERIE_MARK(release, begun);
#pragma omp parallel if (parallel)
  {
    REVERIE_MARK(acquire, begun);
#pragma omp for schedule(dynamic, 1) nowait
    for (int64_t i = 0; i < n; ++i) body(i);
    REVERIE_MARK(release, ended);
  }
  REVERIE_MARK(acquire, ended);
}

#undef REVERIE_HOLDS_REGION
#undef REVERIE_MARK

}  // namespace reverie
