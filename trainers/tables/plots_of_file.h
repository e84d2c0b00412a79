#pragma once
/// The plots of a table that was written before: of its table.json, or its table.csv.

#include <string>
#include <vector>

#include "trainers/reports/svg_plot.h"

namespace reverie {

/// Plots for files beside it, named after it ("cache_augmentation_16_latents.svg"). Of the kinds
/// losses (table.json; without training curves, which it does not hold), latent_effect
/// (table.json or table.csv) and memory (table.json). UserError for another file.
std::vector<PlotFile> plots_of_file(const std::string& file);

}  // namespace reverie
