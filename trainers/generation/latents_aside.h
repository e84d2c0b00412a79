#pragma once
/// Latents that are made while the base goes on writing: asynchronously, on a snapshot of its cache.

#include <functional>
#include <memory>

#include "trainers/generation/latent_supplier.h"

namespace reverie {

/// thread: a thread of this process, with a stream of its own on a GPU. What the coprocessor throws
/// is caught there; what ends a process (a segmentation fault) ends this one.
/// process: a forked copy of this process, which may end in any way. Not on a GPU.
enum class Aside { thread, process };

struct AsideOptions {
  Aside where = Aside::thread;
  /// The latents go in after exactly so many tokens, and the base waits for them there; not set: at
  /// the first token boundary after they are ready, which is behind the first token at the earliest.
  std::optional<int64_t> late = {};
  double longest_wait = 30;  ///< seconds that the base waits at `late`; then it goes on without
};

using MakeLatents = std::function<Variable(AugmentedModel&, const AugmentedModel::Text&)>;

/// A coprocessor that fails or takes for ever leaves the base's text as it would be without one; the
/// report says why. The latents are those of BlockingLatents to the bit: they are computed on as
/// many OpenMP threads, in the same precision.
class LatentsAside final : public LatentSupplier {
 public:
  /// `model` is kept alive as long as its coprocessor computes, and is in eval mode all the while.
  /// `make` stands in for its latents_for(), for tests. UserError for options out of range, or a
  /// process on a GPU.
  LatentsAside(std::shared_ptr<AugmentedModel> model, const AsideOptions& options,
               MakeLatents make = {});
  /// A process that still computes is ended; a thread cannot be, and is left to itself.
  ~LatentsAside() override;

  bool at_once() const override { return options_.late == 0; }
  void begin(const SequenceState& read, const Variable& hidden, const Tensor& tokens) override;
  Variable due(int64_t written) override;
  /// Whether the coprocessor has ended, well or not, after at most so many seconds.
  bool ended_within(double seconds);
  /// How many threads of this process were left to themselves and still compute. Whoever ends the
  /// process meanwhile must do so without the destructors of statics (std::_Exit).
  static int64_t left_alone();

  class Task;

 private:
  std::shared_ptr<AugmentedModel> kept_;
  AsideOptions options_;
  MakeLatents make_;
  std::unique_ptr<Task> task_;
};

}  // namespace reverie
