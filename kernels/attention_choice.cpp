#include <atomic>
#include <cstdlib>

#include "core/error.h"
#include "kernels/attention.h"
#include "kernels/cuda/attention/cudnn/cudnn_attention.h"

namespace reverie {
namespace {

AttentionChoice initial_choice() {
  const char* wanted = std::getenv("REVERIE_ATTENTION");
  const std::string name = wanted == nullptr ? "" : wanted;
  if (name.empty() || name == "own") return AttentionChoice::own;
  if (name != "cudnn")
    throw ConfigError(
        fmt::format("environment variable REVERIE_ATTENTION is '{}'; wanted own or cudnn", name));
  if (attention_library().empty())
    throw ConfigError(
        "REVERIE_ATTENTION is cudnn, but this build has no cuDNN (docs/cuda.md tells how to add "
        "it); unset it to use Reverie's own kernels");
  return AttentionChoice::cudnn;
}

constexpr int kUnknown = -1;
std::atomic<int> choice{kUnknown};

}  // namespace

AttentionChoice attention_choice() {
  int value = choice.load(std::memory_order_relaxed);
  if (value == kUnknown) {
    value = int(initial_choice());
    choice.store(value, std::memory_order_relaxed);
  }
  return AttentionChoice(value);
}

void set_attention_choice(AttentionChoice wanted) {
  if (wanted == AttentionChoice::cudnn && attention_library().empty())
    throw ConfigError("attention: this build has no cuDNN; wanted AttentionChoice::own");
  choice.store(int(wanted), std::memory_order_relaxed);
}

std::string attention_library() {
  return cuda::cudnn_library();
}

}  // namespace reverie
