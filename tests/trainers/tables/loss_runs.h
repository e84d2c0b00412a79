#pragma once
// Runs as a trainer would leave them, without training: smoothly falling, noisy curves.

#include <cmath>
#include <nlohmann/json.hpp>
#include <random>
#include <string>
#include <vector>

#include "core/json.h"
#include "trainers/tables/definitions.h"
#include "trainers/tables/losses/loss_table.h"

namespace reverie::testing {

inline Json table_definition() {
  return parse_json(R"({
    "title": "IMM on Shakespeare, character level",
    "vocabulary_size": 65,
    "models": {
      "gpt": {"title": "GPT", "description": "4 layers, 128 wide"},
      "gpt_matched": {"title": "GPT matched", "description": "IMM's extra parameters spent on a wider MLP"},
      "imm_as_published": {"title": "IMM as published", "description": "reads the mean over the whole block"},
      "imm_causal_mean": {"title": "IMM causal mean", "description": "the same with a running mean"},
      "imm_slots": {"title": "IMM slots", "description": "the paper's definition, made causal"}},
    "citation": "J. I. Orlicki, arXiv 2502.21030",
    "paper": {
      "gpt": {"64": {"train_loss": 1.70}, "128": {"train_loss": 1.52}, "256": {"train_loss": 1.22}},
      "imm_as_published": {"64": {"train_loss": 0.79}, "128": {"train_loss": 0.65}, "256": {"train_loss": 0.80}}},
    "notes": ["The paper does not say how wide its model is."]})");
}

inline LossTable loss_table(Json definition, const std::vector<LossRun>& runs,
                            Provenance provenance = {}) {
  const TableHeading heading = take_heading(definition);
  return build_loss_table(read_report<LossReport>(definition), heading, runs,
                          std::move(provenance));
}

struct RunFigures {
  double train_loss, val_loss, val_loss_prefix_only;
  bool causal = true;
  double max_future_logit_change = 0;
  int64_t parameters = 803840;
};

inline LossRun make_run(const std::string& model, int64_t block_size, uint64_t seed,
                        const RunFigures& f) {
  LossRun run;
  run.model = model;
  run.block_size = block_size;
  run.seed = seed;
  run.run_dir = "runs/" + model + "-" + std::to_string(block_size) + "-" + std::to_string(seed);
  run.summary = {{"train_loss", f.train_loss},
                 {"val_loss", f.val_loss},
                 {"val_loss_prefix_only", f.val_loss_prefix_only},
                 {"causal", f.causal},
                 {"max_future_logit_change", f.max_future_logit_change},
                 {"parameters", f.parameters},
                 {"tokens", 1536000},
                 {"seconds", 100.0},
                 {"tokens_per_second", 15360.0},
                 {"commit", "0123456789abcdef0123456789abcdef01234567"},
                 {"dataset",
                  {{"name", "shakespeare-globe"},
                   {"note", "shakespeare-globe: not the paper's text"},
                   {"hash", "0123456789abcdef"}}}};
  std::mt19937_64 random(seed * 1000 + uint64_t(block_size));
  std::normal_distribution<double> noise(0, 0.05);
  for (int64_t step = 10; step <= 2000; step += 10) {
    const double fall = std::exp(-double(step) / 180) * 0.8 + std::exp(-double(step) / 900) * 0.2;
    run.metrics.push_back({{"event", "train"},
                           {"step", step},
                           {"loss", f.train_loss + (4.3 - f.train_loss) * fall + noise(random)},
                           {"learning_rate", 1e-3},
                           {"gradient_norm", 0.5},
                           {"tokens", 768 * step},
                           {"tokens_per_second", 15360.0},
                           {"seconds", 0.05 * double(step)}});
  }
  run.metrics.push_back({{"event", "sample"},
                         {"step", 2000},
                         {"text", "ROMEO:\nWhat <light> & \"how\" through yonder window?\n"}});
  return run;
}

// Five models at each block size, three seeds; `imm_as_published` leaks.
inline std::vector<LossRun> make_runs(const std::vector<int64_t>& block_sizes = {64, 128, 256},
                                      int seeds = 3) {
  std::vector<LossRun> runs;
  for (const int64_t block_size : block_sizes)
    for (int seed = 1; seed <= seeds; ++seed) {
      const double s = 0.01 * (seed - 2), lower = block_size == 64    ? 0
                                                  : block_size == 128 ? 0.15
                                                                      : 0.3;
      runs.push_back(make_run("gpt", block_size, uint64_t(seed),
                              {1.7685 + s - lower, 1.8673 + s - lower, 1.8582 + s - lower}));
      runs.push_back(
          make_run("gpt_matched", block_size, uint64_t(seed),
                   {1.755 + s - lower, 1.860 - s - lower, 1.852 + s - lower, true, 0, 869760}));
      runs.push_back(make_run("imm_as_published", block_size, uint64_t(seed),
                              {0.7519 + s + 2 * lower, 0.8022 + s + 2 * lower,
                               5.1277 + 10 * s - 4 * lower, false, 9.44 + s - 25 * lower, 869760}));
      runs.push_back(
          make_run("imm_causal_mean", block_size, uint64_t(seed),
                   {1.7479 - s - lower, 1.8615 + s - lower, 1.8545 + s - lower, true, 0, 869760}));
      runs.push_back(make_run(
          "imm_slots", block_size, uint64_t(seed),
          {1.7601 - s - lower, 1.8702 + 2 * s - lower, 1.8650 + s - lower, true, 0, 875000}));
    }
  return runs;
}

inline Provenance make_provenance() {
  Provenance p;
  p.command = "reverie repro configs/tables/imm_shakespeare.json --preset laptop";
  p.preset = "laptop";
  p.date = "2025-03-01T12:34:56Z";
  p.commit = "0123456789abcdef0123456789abcdef01234567";
  p.machine = {"Some CPU", 2, int64_t(24) << 30, "Linux 6.1 x86_64"};
  return p;
}

}  // namespace reverie::testing
