// {"type": "pretrained", "path": ...}: a published model as the start of a run (continued
// training), under its own parameter names.

#include "layers/pretrained/load.h"
#include "layers/pretrained/plain_model.h"

namespace reverie {
namespace {

struct PretrainedModelOptions final : Fieldset {
  std::string path;
  std::optional<int64_t> block_size;
  void fields(Fields& f) override {
    f.text("path", path, {},
           "a Hugging Face directory, a .gguf or a llama2.c .bin file: the first weights");
    f.integer_or_auto("block_size", block_size, kPositive,
                      "longest sequence, in tokens; auto: the model's own");
  }
};

class PretrainedModel final : public LanguageModel, public AroundPlainModel {
 public:
  PretrainedModel(const PretrainedModelOptions& o, const Build& build) {
    PretrainedOptions options;
    options.dtype = build.dtype;
    options.device = build.device;
    options.frozen = false;
    options.block_size = o.block_size;
    LoadedModel loaded = load_pretrained(o.path, options);
    component_ = loaded.component;
    ends_ = loaded.ends;
    model_ = static_cast<Transformer*>(&adopt("", std::move(loaded.model)));
  }
  const Transformer& plain_model() const override { return *model_; }
  const Component& plain_component() const override { return component_; }
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
  double forward_flops_per_token(int64_t length) const override {
    return model_->forward_flops_per_token(length);
  }

 private:
  Transformer* model_;
  Component component_;
  std::vector<int32_t> ends_;
};

const bool registered = ModelRegistry::instance().add<PretrainedModel, PretrainedModelOptions>(
    "pretrained", "a published model, to train on (Hugging Face directory, GGUF, llama2.c)");

}  // namespace
}  // namespace reverie
