#include "trainers/generation/latent_supplier.h"

#include <chrono>

#include "core/error.h"

namespace reverie {

void require_valid(const LatentRenewal& r) {
  require(r.late >= 0, "latents_late is {}, wanted 0 or more", r.late);
  require(r.every >= 0, "latents_every is {}, wanted 0 (once) or more", r.every);
  require(r.every == 0 || r.late < r.every,
          "latents that are made anew every {} tokens and arrive {} tokens late would be replaced "
          "before they arrive: wanted latents_every of {} or more, or a smaller latents_late",
          r.every, r.late, r.late + 1);
}

BlockingLatents::BlockingLatents(AugmentedModel& model, int64_t late, int64_t every)
    : LatentSupplier(model), renewal_{every, late} {
  require_valid(renewal_);
}

void BlockingLatents::begin(const SequenceState& read, const Variable& hidden,
                            const Tensor& tokens) {
  using Clock = std::chrono::steady_clock;
  const auto begun = Clock::now();
  latents_ = model_.latents_for(read, hidden, tokens);
  report_.seconds = std::chrono::duration<double>(Clock::now() - begun).count();
}

}  // namespace reverie
