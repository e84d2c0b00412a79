#pragma once
/// Options and words that Qwen2 and Qwen3 share.

#include "layers/families/rotary.h"
#include "layers/families/rotary_words.h"

namespace reverie {

struct QwenOptions : RotaryOptions {
  int64_t sliding_window = 0, max_window_layers = 0;
  QwenOptions();
  void fields(Fields&) override;

 protected:
  TransformerShape qwen_shape() const;
};

class QwenFamily : public Family {
 public:
  using Family::Family;
  Json to_hugging_face(const Json& options, const TransformerShape&) const override;
  Json from_gguf(GgufKeys&) const override;
  void to_gguf(GgufKeyWriter&, const Json& options, const TransformerShape&) const override;

 protected:
  /// `defaults` as in rotary_options().
  Json qwen_options(const HuggingFaceConfig&, const Json& defaults) const;
};

}  // namespace reverie
