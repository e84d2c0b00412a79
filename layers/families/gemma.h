#pragma once
/// Options and words that Gemma 2 and 3 (text) share.

#include "layers/families/rotary.h"
#include "layers/families/rotary_words.h"

namespace reverie {

struct GemmaOptions : RotaryOptions {
  std::optional<int64_t> query_pre_attn_scalar;
  int64_t sliding_window = 4096, global_every = 2;
  GemmaOptions();
  void fields(Fields&) override;

 protected:
  TransformerShape gemma_shape() const;  ///< all layers see all keys
};

class GemmaFamily : public Family {
 public:
  /// `usual_every`: every so many layers see all keys in published models; `largest_layers`: layers
  /// of the 27B model, whose scores have a scale of their own.
  GemmaFamily(FamilyNames names, int64_t usual_every, int64_t largest_layers)
      : Family(std::move(names)), usual_every_(usual_every), largest_layers_(largest_layers) {}

 protected:
  /// What both say in the same words. `defaults` are added to theirs (see rotary_options()).
  Json gemma_options(const HuggingFaceConfig&, const Json& defaults) const;
  Json gemma_config(const Json& options, const TransformerShape&) const;
  Json gemma_options(GgufKeys&, double default_theta) const;
  void write_gemma_keys(GgufKeyWriter&, const Json& options, const TransformerShape&) const;

 private:
  int64_t usual_every_, largest_layers_;
};

}  // namespace reverie
