#include "core/dry_run.h"

#include <atomic>

namespace reverie {
namespace {

std::atomic<int> alive{0};
// Below it, a value may be looked at: a loss, a norm, a gain.
constexpr size_t kSmall = 64 << 10;

}  // namespace

DryRun::DryRun() {
  ++alive;
}
DryRun::~DryRun() {
  --alive;
}
bool dry_run() {
  return alive.load(std::memory_order_relaxed) > 0;
}
bool without_values(size_t bytes, bool floating) {
  return floating && bytes > kSmall && dry_run();
}

}  // namespace reverie
