#pragma once
/// The interface of models for trainers, samplers and probes.

#include <memory>

#include "core/registry.h"
#include "layers/module.h"
#include "layers/sequence_state.h"

namespace reverie {

class LanguageModel : public Module {
 public:
  virtual int64_t vocabulary_size() const = 0;
  virtual int64_t block_size() const = 0;  ///< most rows in one forward
  /// tokens i32 [B, T] -> final hidden states [B, T, C], after the last norm. `state` (may be null)
  /// is read and advanced.
  virtual Variable hidden(const Tensor& tokens, SequenceState* state = nullptr) = 0;
  /// The output projection [V, C].
  virtual const Variable& head() const = 0;
  /// Logits z become c tanh(z / c) with this c (Gemma 2); 0: they stay.
  virtual double logit_softcap() const { return 0; }
  /// Whether a forward over pieces, with the state carried, equals the forward over the whole.
  virtual bool incremental() const = 0;
  /// Whether memory goes on from one window of a text to the next (`state` without a cache).
  virtual bool carries_memory() const = 0;
  /// The memory that a text begins with, for `batch` of them; empty where there is none.
  virtual MemoryState initial_memory(int64_t batch) const { return {}; }
  /// Tokens that end a text, where the model came from files that name them.
  virtual std::vector<int32_t> ends_of_text() const { return {}; }
  /// Floating-point operations of one forward per token at this length, for plans and reports.
  virtual double forward_flops_per_token(int64_t length) const = 0;

  /// Final hidden states [.., C] -> [.., V]: the projection and the soft-cap. Slice off the rows
  /// that are needed beforehand: a large vocabulary makes a logit row far longer than a hidden one.
  Variable logits_of(const Variable& hidden) const;
  /// The loss of final hidden states [.., C] for targets i32 [..], see loss(). Rows without a target
  /// cost nothing.
  Variable loss_of(const Variable& hidden, const Tensor& targets, double weight_per_target) const;

  /// [B, T, V].
  Variable logits(const Tensor& tokens, SequenceState* state = nullptr);
  /// sum over targets (-1: none) of the cross entropy, times `weight_per_target`. One element.
  virtual Variable loss(const Tensor& tokens, const Tensor& targets, double weight_per_target,
                        SequenceState* state = nullptr);
};

using ModelRegistry = Registry<LanguageModel, const Build&>;
template <>
ModelRegistry& ModelRegistry::instance();

}  // namespace reverie
