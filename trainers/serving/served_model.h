#pragma once
/// The one model that a server offers: a base and, under a second name, the base with latents.

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "layers/coprocessor/augmented_model.h"
#include "trainers/evaluation/model_source.h"
#include "trainers/generation/latent_supplier.h"

namespace reverie {

/// One name under which requests may ask for the model.
struct ServedName {
  std::string id;
  bool latents = false;
  std::string description;  ///< the files that were opened
  Verdict verdict;
};

class ServedModel {
 public:
  /// `model` and `coprocessor` ("": none) as `reverie sample` takes them. `late`: tokens between the
  /// text that latents are made from and the place where they go in; not set: the run's own delay.
  /// `every`: they are made anew after every so many tokens that are written; 0: once. UserError
  /// where they do not belong together, or where there is no tokenizer.
  ServedModel(const std::string& model, const std::string& coprocessor, const OpenOptions& options,
              std::optional<int64_t> late, int64_t every = 0);
  /// Models that are at hand already, for tests: names "base" and, for an AugmentedModel,
  /// "base+latents".
  ServedModel(std::unique_ptr<LanguageModel> model, std::shared_ptr<const Tokenizer> tokenizer,
              int64_t late = 0, int64_t every = 0);

  const std::vector<ServedName>& names() const { return names_; }
  /// nullptr where no name is `id`.
  const ServedName* find(std::string_view id) const;

  const Tokenizer& tokenizer() const { return *tokenizer_; }
  LanguageModel& base() { return *base_; }
  /// The base where texts of different lengths may stand side by side in one forward: a transformer
  /// without memory. Else nullptr.
  Transformer* plain_base() { return plain_base_; }
  /// nullptr without a coprocessor.
  AugmentedModel* augmented() { return augmented_; }
  int64_t latents_late() const { return renewal_.late; }
  int64_t latents_every() const { return renewal_.every; }
  /// Rows that latents take in a text.
  int64_t latent_rows() const { return augmented_ ? augmented_->source().count() : 0; }
  /// Most rows of a text, latents included.
  int64_t context() const { return base_->block_size(); }
  /// Tokens that a request may name.
  int64_t vocabulary() const { return base_->vocabulary_size(); }
  /// Each ends a text.
  const std::vector<int32_t>& ends() const { return ends_; }

 private:
  void find_plain_base();

  std::unique_ptr<LanguageModel> owned_;
  std::shared_ptr<const Tokenizer> tokenizer_;
  std::vector<int32_t> ends_;
  LanguageModel* base_ = nullptr;
  Transformer* plain_base_ = nullptr;
  AugmentedModel* augmented_ = nullptr;
  LatentRenewal renewal_;
  std::vector<ServedName> names_;
};

}  // namespace reverie
