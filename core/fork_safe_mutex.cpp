#include "core/fork_safe_mutex.h"

#include <pthread.h>

#include <algorithm>
#include <vector>

namespace reverie {
namespace {

struct All {
  std::mutex mutex;
  std::vector<ForkSafeMutex*> mutexes;

  All();
};
All& all() {
  static auto* every = new All;  // never destroyed: static objects have such mutexes
  return *every;
}

void lock_all() {
  all().mutex.lock();
  for (ForkSafeMutex* m : all().mutexes) m->lock();
}
void unlock_all() {
  for (ForkSafeMutex* m : all().mutexes) m->unlock();
  all().mutex.unlock();
}

All::All() {
  ::pthread_atfork(lock_all, unlock_all, unlock_all);
}

}  // namespace

ForkSafeMutex::ForkSafeMutex() {
  const std::lock_guard lock(all().mutex);
  all().mutexes.push_back(this);
}
ForkSafeMutex::~ForkSafeMutex() {
  const std::lock_guard lock(all().mutex);
  auto& mutexes = all().mutexes;
  mutexes.erase(std::find(mutexes.begin(), mutexes.end(), this));
}

}  // namespace reverie
