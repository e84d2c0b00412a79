#pragma once
/// Latents of one coprocessor for one text that is being written, and when they come.

#include <memory>
#include <optional>
#include <string>

#include "layers/coprocessor/augmented_model.h"

namespace reverie {

/// What became of the latents.
struct LatentArrival {
  /// Tokens of the text behind which they were put in; not set: they never were.
  std::optional<int64_t> arrived_after = {};
  /// From the end of the prompt until they were made; not set: they were not.
  std::optional<double> seconds = {};
  std::string failure = {};  ///< why there are none: the message of what was thrown; "": no failure
};

/// Latents that are made anew after every so many tokens that were written, from the text without
/// the old ones, and take their place `late` tokens later.
struct LatentRenewal {
  int64_t every = 0;  ///< 0: never
  int64_t late = 0;
  /// Whether new latents go in behind `written` tokens.
  bool due(int64_t written) const {
    return every > 0 && written >= every + late && (written - late) % every == 0;
  }
};
/// UserError for numbers below 0, and for latents that new ones would overtake.
void require_valid(const LatentRenewal& renewal);

/// Serves one text (or several that are written side by side after one prompt).
class LatentSupplier {
 public:
  explicit LatentSupplier(AugmentedModel& model) : model_(model) {}
  virtual ~LatentSupplier() = default;
  LatentSupplier(const LatentSupplier&) = delete;
  LatentSupplier& operator=(const LatentSupplier&) = delete;

  AugmentedModel& model() const { return model_; }
  /// Rows that they take in the text.
  int64_t rows() const { return model_.source().count(); }
  /// Whether they go in right behind the prompt, so that it must leave room for them.
  virtual bool at_once() const = 0;
  /// The prompt has been read: arguments as those of AugmentedModel::latents_for().
  virtual void begin(const SequenceState& read, const Variable& hidden, const Tensor& tokens) = 0;
  /// The latents that go in behind `written` tokens; undefined: none now. Asked after each token,
  /// until there are some.
  virtual Variable due(int64_t written) = 0;
  virtual LatentRenewal renewal() const { return {}; }
  const LatentArrival& report() const { return report_; }
  void note_arrival(int64_t written) { report_.arrived_after = written; }

 protected:
  AugmentedModel& model_;
  LatentArrival report_;
};

/// The text waits while its latents are made; they go in after `late` tokens. With `every` > 0 they
/// are made anew (LatentRenewal). What the coprocessor throws ends the text.
class BlockingLatents final : public LatentSupplier {
 public:
  /// UserError as require_valid() has it.
  BlockingLatents(AugmentedModel& model, int64_t late, int64_t every = 0);
  bool at_once() const override { return renewal_.late == 0; }
  void begin(const SequenceState& read, const Variable& hidden, const Tensor& tokens) override;
  Variable due(int64_t written) override {
    return written == renewal_.late ? latents_ : Variable();
  }
  LatentRenewal renewal() const override { return renewal_; }

 private:
  LatentRenewal renewal_;
  Variable latents_;
};

}  // namespace reverie
