#pragma once
/// What a run is about to do, in at most ten lines of at most 80 columns.

#include <string>
#include <utility>
#include <vector>

#include "trainers/training/callback.h"

namespace reverie {

/// {"model", "gpt2, 4 layers, 4 heads, width 128, block 64"}, ...: model, parameters, device, data,
/// training, run directory, causality.
std::vector<std::pair<std::string, std::string>> run_overview(const RunView& trainer);
/// The same for a terminal: names in a column, values cut at 80 columns, but for the directory.
std::string run_overview_text(const RunView& trainer);

/// "gpt2, 4 layers, 4 heads, width 128, block 64, memory imm", from a resolved model config.
std::string model_in_words(const Json& model);

}  // namespace reverie
