#include "trainers/serving/served_model.h"

#include <filesystem>

#include "core/error.h"
#include "trainers/evaluation/written_text.h"

namespace reverie {
namespace {

// "runs/my_run@best" -> "my_run@best", "models/gemma.gguf" -> "gemma".
std::string name_of(const std::string& path) {
  std::filesystem::path p(path);
  if (!p.has_filename()) p = p.parent_path();
  const std::string extension = p.extension().string();
  return (extension == ".gguf" || extension == ".bin" ? p.stem() : p.filename()).string();
}

}  // namespace

ServedModel::ServedModel(const std::string& model, const std::string& coprocessor,
                         const OpenOptions& options, std::optional<int64_t> late, int64_t every) {
  require(!late || !coprocessor.empty(),
          "--latents-late applies to the latents of a --coprocessor: name one, or remove it");
  require(every == 0 || !coprocessor.empty(),
          "--latents-every applies to the latents of a --coprocessor: name one, or remove it");
  UsableModel run;
  if (!coprocessor.empty()) run = open_language_model(coprocessor, options);
  OpenOptions of_base = options;
  of_base.or_else = run.tokenizer;
  UsableModel m = open_language_model(model, of_base);
  m.text();
  tokenizer_ = m.tokenizer;
  ends_ = m.ends;
  names_.push_back({name_of(model), false, m.description, m.verdict});
  if (coprocessor.empty()) {
    owned_ = std::move(m.model);
    auto* with_latents = dynamic_cast<AugmentedModel*>(owned_.get());
    base_ = with_latents ? &with_latents->base() : owned_.get();
  } else {
    augmented_ = &coprocessor_beside(run, coprocessor, m, model);
    renewal_ = {every, late.value_or(augmented_->options().delay)};
    require_valid(renewal_);
    Verdict verdict = m.verdict;
    verdict.merge(run.verdict);
    names_.push_back({names_[0].id + "+" + name_of(coprocessor), true,
                      m.description + " with the latents of " + run.description, verdict});
    // Its base has the same weights: one copy of them is enough.
    owned_ = std::move(run.model);
    base_ = &augmented_->base();
  }
  find_plain_base();
}

ServedModel::ServedModel(std::unique_ptr<LanguageModel> model,
                         std::shared_ptr<const Tokenizer> tokenizer, int64_t late, int64_t every)
    : owned_(std::move(model)), tokenizer_(std::move(tokenizer)), renewal_{every, late} {
  require_valid(renewal_);
  owned_->train(false);
  augmented_ = dynamic_cast<AugmentedModel*>(owned_.get());
  base_ = augmented_ ? &augmented_->base() : owned_.get();
  ends_ = ends_of_text(*owned_, tokenizer_.get());
  names_.push_back({"base", false, "base", {}});
  if (augmented_) names_.push_back({"base+latents", true, "base with latents", {}});
  find_plain_base();
}

void ServedModel::find_plain_base() {
  auto* transformer = dynamic_cast<Transformer*>(base_);
  if (transformer && !transformer->has_memory()) plain_base_ = transformer;
}

const ServedName* ServedModel::find(std::string_view id) const {
  for (const ServedName& name : names_)
    if (name.id == id) return &name;
  return nullptr;
}

}  // namespace reverie
