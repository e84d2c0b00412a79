// {"type": "pretrained", "path": ...}: a published model as the start of a run (continued
// training), under its own parameter names: all of its weights, or low-rank updates of them (LoRA).

#include "layers/frozen_base.h"
#include "layers/linear.h"
#include "layers/pretrained/load.h"
#include "layers/pretrained/new_tokens.h"
#include "layers/pretrained/plain_model.h"

namespace reverie {
namespace {

struct PretrainedModelOptions final : Fieldset {
  std::string path;
  std::optional<int64_t> block_size, rank;
  double alpha = 16;
  bool rematerialize = false;
  NewTokenOptions vocabulary;
  void fields(Fields& f) override {
    f.path("path", path,
           "the initial weights: a Hugging Face directory, a .gguf file or a llama2.c .bin file");
    f.integer_or_auto("block_size", block_size, kPositive,
                      "longest sequence, in tokens; auto: the model's own");
    f.integer_or_auto("rank", rank, {1, 1 << 16},
                      "train low-rank updates (LoRA) of this rank for the blocks' projections "
                      "and freeze the model's weights; auto: train all weights");
    f.number("alpha", alpha, {1e-6, 1e6}, "updates are multiplied by alpha / rank");
    f.boolean("rematerialize", rematerialize,
              "recompute blocks in the backward pass instead of keeping their activations");
    vocabulary.describe(f);
    f.rule(!rank || vocabulary.new_tokens == 0,
           "new_tokens are given, and rank, which trains low-rank updates alone, would leave their "
           "rows as they begin: wanted a model that has the tokens, such as the export of a run "
           "that trained them, or no rank");
  }
};

class PretrainedModel final : public LanguageModel,
                              public AroundPlainModel,
                              public BesideFrozenBase {
 public:
  PretrainedModel(const PretrainedModelOptions& o, const Build& build) {
    PretrainedOptions options;
    options.dtype = build.dtype;
    options.device = build.device;
    options.frozen = o.rank.has_value();
    options.block_size = o.block_size;
    options.rematerialize = o.rematerialize;
    options.new_tokens = o.vocabulary.asked();
    LoadedModel loaded = load_pretrained(o.path, options);
    component_ = loaded.component;
    ends_ = loaded.ends;
    model_ = static_cast<Transformer*>(&adopt("", std::move(loaded.model)));
    if (o.rank) {
      frozen_ = reverie::frozen_base(o.path, "", *model_, component_);
      low_rank_scale_ = o.alpha / double(*o.rank);
      add_low_rank_updates(*model_, *o.rank, o.alpha, build);
    }
  }
  const Transformer& plain_model() const override { return *model_; }
  const Component& plain_component() const override { return component_; }
  double low_rank_scale() const override { return low_rank_scale_; }
  FrozenBase* frozen_base() override { return low_rank_scale_ > 0 ? &frozen_ : nullptr; }
  int64_t vocabulary_size() const override { return model_->vocabulary_size(); }
  int64_t block_size() const override { return model_->block_size(); }
  Variable hidden(const Tensor& tokens, SequenceState* state) override {
    return model_->hidden(tokens, state);
  }
  const Variable& head() const override { return model_->head(); }
  double logit_softcap() const override { return model_->logit_softcap(); }
  bool incremental() const override { return model_->incremental(); }
  std::vector<int32_t> ends_of_text() const override { return ends_; }
  bool carries_memory() const override { return model_->carries_memory(); }
  MemoryState initial_memory(int64_t batch) const override { return model_->initial_memory(batch); }
  double forward_flops_per_token(int64_t length) const override {
    return model_->forward_flops_per_token(length);
  }

 private:
  Transformer* model_;
  Component component_;
  double low_rank_scale_ = 0;  // of updates beside frozen weights; 0: none
  FrozenBase frozen_;
  std::vector<int32_t> ends_;
};

const bool pretrained_model_registered =
    ModelRegistry::instance().add<PretrainedModel, PretrainedModelOptions>(
        "pretrained",
        "a published model as the start of training (Hugging Face directory, GGUF, "
        "llama2.c)");

}  // namespace
}  // namespace reverie
