#pragma once
/// The causality gate: does any logit depend on what it must not see? The model is a black box here;
/// only its logits are looked at.

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "autograd/precision.h"
#include "core/config.h"
#include "layers/language_model.h"
#include "trainers/runs/verdict.h"

namespace reverie {

struct CausalityOptions {
  uint64_t seed = 1;         ///< of the tokens
  int64_t sequences = 3;     ///< rows of a batch; at least 2
  int64_t max_length = 256;  ///< longest sequence probed, where block_size is larger
  /// Where both sides of a comparison are rounded alike, they may not differ at all.
  bool exact = false;
  MatmulPrecision precision = MatmulPrecision::full;  ///< of products in train mode
};

/// One way of changing what must not matter, and how far logits moved.
struct Probe {
  std::string name;      ///< "changing all tokens from the cut on"
  double change = 0;     ///< largest |difference| of a logit; infinite where one is not a number
  double tolerance = 0;  ///< what it may be; 0 where both sides have to be equal to the bit
  double rounding = 0;   ///< what rounding may do (rounding.h)
  bool offered = true;   ///< false: the model has no such mode, and nothing was compared
  bool ok = true;
  bool future = false;  ///< a failure means that logits depend on later tokens
  bool leak = true;     ///< ... or on other rows or calls; false: two ways to one result disagree
  std::string where;    ///< "cut 31, position 12, row 0, train mode, 64 tokens"
  std::string site;     ///< the end of it: "train mode, 64 tokens"
};

struct CausalityReport {
  std::vector<Probe> probes;
  double max_future_logit_change = 0;  ///< over the probes with `future`
  std::string worst;    ///< the gravest failure as a sentence; of a causal model, what rounding did
  std::string subject;  ///< what was probed: sizes and precision

  /// All probes hold. False for a report without probes: nothing was shown.
  bool causal() const;
  /// A leak moves a logit by more than rounding could: no other dtype need be asked.
  bool beyond_rounding() const;
  /// The same for the record of a run.
  Verdict verdict(int64_t step) const;
  Json json() const;
  /// A table of the probes and a verdict line.
  std::string text() const;
};

/// Probes on random tokens, in eval mode and in train mode with a graph (with the same dropout masks
/// on both sides of a comparison), at block_size (or max_length) and at a shorter odd length:
///   future   changing all tokens from a cut on (every cut, many of them in one batch of rows), or
///            the last token alone, or leaving out what comes after the cut, must not move logits
///            before the cut
///   rows     changing one row must not move another; permuting the rows permutes the logits
///   repeats  the same input gives the same logits again, also after an unrelated input: no state
///            is hidden in the model
///   state    with state carried from a first piece to a second (memory, KV cache): all of the above
///            for the second piece
///   cache    decoding token by token, and in odd pieces, gives the full forward's logits
/// The model's mode and default_generator() are restored. Tolerances are rounding_of()'s; with
/// `exact` it is 0 where both sides have the same shapes and the same rows in the same places.
/// UserError for a vocabulary below 2, where no token can change; DivergedError where the model's
/// logits are not finite.
CausalityReport probe_causality(LanguageModel& model, const CausalityOptions& options);

/// A copy of the model, by default in f64, where rounding hides nothing: with `weights` in their
/// place, or, without, redrawn so that every path carries weight from the start
/// (redraw_parameter()).
std::unique_ptr<LanguageModel> probing_copy(const Component& model_config,
                                            const NamedTensors* weights, DType dtype = DType::f64);

/// The verdict on a copy with redrawn weights that a run in `dtype` begins with; its live model is
/// asked besides (canary.h). First in f32, several times faster than f64: where not one bit of any
/// logit moves, no tolerance is needed to call a model causal, and what moves by more than f32 rounds
/// is a leak, whatever other code runs in f64. (Decoding and texts of other lengths are rounded
/// otherwise, and held to f32's bound.) What moves by less is judged in f64, and so is a run in f64,
/// which could see what f32 cannot.
CausalityReport gate_causality(const Component& model_config, DType dtype,
                               MatmulPrecision precision = MatmulPrecision::full);

/// The verdict of gate_causality() on the architecture: every part, option, mode and cut of the model
/// at a fraction of its width, depth and vocabulary (reduced_model()). What a model does at its own
/// sizes only, the live one has to show; the verdict says so. nullopt where the model cannot be made
/// smaller and a copy as large as it would take too long (copy_probe_limit()). `live` is not touched.
struct ArchitectureProbe {
  CausalityReport report;
  bool reduced = false;  ///< the copy was smaller than the model
};
std::optional<ArchitectureProbe> probe_architecture(const Component& model_config,
                                                    const LanguageModel& live, DType dtype,
                                                    MatmulPrecision precision);

}  // namespace reverie
