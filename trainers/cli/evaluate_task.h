#pragma once
/// `reverie eval MODEL --task NAME`: a model on a benchmark's items.

#include <CLI/CLI.hpp>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "trainers/evaluation/model_source.h"

namespace reverie {

struct TaskArguments {
  std::string task, data, sample_log, against;
  std::optional<int64_t> shots = {};
  int64_t limit = 0, batch_tokens = 4096;
  bool latents = false;
  int64_t latents_every = 0;
};

/// Adds --task and the options that belong to it; the options `others` cannot stand beside it.
void add_task_options(CLI::App& command, TaskArguments& a, const std::vector<std::string>& others);
void evaluate_task(const std::string& model, const OpenOptions& open, const std::string& json,
                   const TaskArguments& a);

}  // namespace reverie
