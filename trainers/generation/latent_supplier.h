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
  const LatentArrival& report() const { return report_; }
  void note_arrival(int64_t written) { report_.arrived_after = written; }

 protected:
  AugmentedModel& model_;
  LatentArrival report_;
};

/// The text waits while its latents are made; they go in after `late` tokens. What the coprocessor
/// throws ends the text.
class BlockingLatents final : public LatentSupplier {
 public:
  /// UserError for late < 0.
  BlockingLatents(AugmentedModel& model, int64_t late);
  bool at_once() const override { return late_ == 0; }
  void begin(const SequenceState& read, const Variable& hidden, const Tensor& tokens) override;
  Variable due(int64_t written) override { return written == late_ ? latents_ : Variable(); }

 private:
  int64_t late_;
  Variable latents_;
};

}  // namespace reverie
