#include "trainers/generation/latent_supplier.h"

#include <chrono>

#include "core/error.h"

namespace reverie {

BlockingLatents::BlockingLatents(AugmentedModel& model, int64_t late)
    : LatentSupplier(model), late_(late) {
  require(late >= 0, "latents_late is {}, wanted 0 or more", late);
}

void BlockingLatents::begin(const SequenceState& read, const Variable& hidden,
                            const Tensor& tokens) {
  using Clock = std::chrono::steady_clock;
  const auto begun = Clock::now();
  latents_ = model_.latents_for(read, hidden, tokens);
  report_.seconds = std::chrono::duration<double>(Clock::now() - begun).count();
}

}  // namespace reverie
