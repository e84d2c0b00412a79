#pragma once
/// Memory modules: what a model may remember beside its attention. Users register their own
/// (docs/extending.md).

#include <memory>
#include <string>
#include <vector>

#include "core/plugin.h"
#include "core/registry.h"
#include "layers/module.h"
#include "layers/sequence_state.h"

namespace reverie {

/// Where a module is built into a model.
struct MemorySite {
  int64_t features;  ///< n_embd
  int64_t layers;
  const Build& build;
};

/// The layer that a hook is called for.
struct LayerView {
  int64_t layer;
  Variable hidden;  ///< [B, T, features]
};

/// One module serves all layers of a model; its parameters appear under "<prefix>.memory.".
/// Per-layer state lives in MemoryState under names of the module's choosing ("3.sum"), and nowhere
/// else: where blocks are rematerialised, before_block() and after_block() are called a second
/// time, in backward, with the state that they had. To be causal, row t of what a hook returns may
/// depend on rows 0..t alone: the gate probes it.
class MemoryModule : public Module {
 public:
  /// State at the start of a text, for a batch of B sequences. Default: nothing.
  virtual MemoryState initial(int64_t batch, DType, Device) const { return {}; }
  /// The residual stream before and after layer `view.layer`'s block; both return what goes on.
  virtual Variable before_block(const LayerView& view, MemoryState& state) { return view.hidden; }
  virtual Variable after_block(const LayerView& view, MemoryState& state) { return view.hidden; }
  /// Rows [B, n, features] in front of a window, which all its rows see and which go through the blocks
  /// with them; undefined: none. Asked for once a window, before anything else. The hooks above get
  /// these rows, too.
  virtual Variable rows_before(int64_t batch, MemoryState& state) { return {}; }
  /// Final hidden states [B, .., features] of the rows in front and of the window's, or of the piece of
  /// it that was decoded.
  virtual void after_rows(const Variable& final_states, MemoryState& state) {}
  /// Whether processing a text in pieces, with the state carried, equals processing it whole (needed
  /// for incremental decoding).
  virtual bool incremental() const = 0;
  /// Whether the state is carried from one training window to the next of the same text.
  virtual bool carries_memory() const { return false; }
  /// The part of a text's state that a decoder may read (docs/explaining.md): rows [B, n, features]
  /// for each layer that has a state. n does not depend on the text; an initial state has rows, too.
  /// Default: the module exposes nothing.
  virtual std::vector<Variable> readable(const MemoryState&, int64_t /*batch*/) const { return {}; }
  /// Floating-point operations per token and layer.
  virtual double flops_per_token() const { return 0; }
};

using MemoryRegistry = Registry<MemoryModule, const MemorySite&>;
template <>
MemoryRegistry& MemoryRegistry::instance();

}  // namespace reverie

/// Registers TYPE, constructed as TYPE(const OPTIONS&, const reverie::MemorySite&), under NAME.
/// OPTIONS is a Fieldset.
#define REVERIE_REGISTER_MEMORY(NAME, TYPE, OPTIONS, DOC)    \
  [[maybe_unused]] static const bool reverie_memory_##TYPE = \
      ::reverie::MemoryRegistry::instance().add<TYPE, OPTIONS>(NAME, DOC)
