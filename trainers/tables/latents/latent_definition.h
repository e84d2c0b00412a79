#pragma once
/// The definition of tables of the kind "latent_effect".

#include "trainers/tables/latents/latent_table.h"

namespace reverie {

struct LatentMeasureOptions final : Fieldset {
  int64_t positions = 32, points = 16, windows = 0, batch_size = 8, resamples = 1000;
  std::string offsets = "drawn";
  std::vector<int64_t> shown{1, 2, 4, 8, 16, 32};
  void fields(Fields&) override;
};

/// Trials of every model, with its first number of latents and the first seed. The rate with the
/// lowest loss behind insertions into every fourth held-out text is used, and those texts are in no
/// other figure.
struct LatentSweep final : Fieldset {
  int64_t steps = 0;  ///< 0: no trials
  std::vector<double> learning_rates;
  Named<std::vector<double>> models;
  void fields(Fields&) override;
};

struct LatentPreset final : TablePreset {
  Named<std::vector<int64_t>> cells;  ///< by model: numbers of latents; none for a model without
  std::string base_model;             ///< or `pretraining`
  Json pretraining, base_shape, augmented;
  std::string base_dtype = "f32";  ///< of the matrices in the files of a base that is not there yet
  LatentMeasureOptions measure;
  LatentSweep sweep;
  void fields(Fields&) override;
};

struct LatentDefinition final : TableDefinitionWith<LatentPreset> {
  LatentDefinition() : TableDefinitionWith("latent_effect") {}
  LatentReport report;
  Json augmented;
  std::vector<std::string> shuffled;
  LatentMeasureOptions measure;  ///< that presets begin with
  void fields(Fields&) override;
  void refuse_misplaced(const Config& file) const override;
};

}  // namespace reverie
