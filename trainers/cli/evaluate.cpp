#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "trainers/cli/arguments.h"
#include "trainers/cli/commands.h"
#include "trainers/evaluation/evaluate.h"
#include "trainers/training/trainer.h"

namespace reverie {
namespace {

struct EvalArguments {
  std::string run, json;
  int64_t windows = 0, prefix_windows = 64, batch_size = 32;
};

void run(const EvalArguments& a) {
  const LoadedRun r = load_run(a.run);
  const Dataset data = open_dataset(r.options.data);
  const int64_t block = r.model->block_size();
  const EvaluationWindows val(data.validation, a.batch_size, block, a.windows),
      train(data.train, a.batch_size, block, val.window_count());
  const EvaluationWindows prefix(data.validation, a.batch_size, block, a.prefix_windows);
  const EvaluationResult t = evaluate(*r.model, train), v = evaluate(*r.model, val);
  const EvaluationResult p = evaluate_prefix_only(*r.model, prefix),
                         same = evaluate(*r.model, prefix);
  const std::string label = r.leaks ? "  LEAKS" : "";
  Json out = {{"run", a.run},
              {"checkpoint", r.checkpoint},
              {"train_loss", t.loss},
              {"val_loss", v.loss},
              {"val_loss_prefix_only", p.loss},
              {"val_loss_on_prefix_only_windows", same.loss},
              {"predictions", v.targets},
              {"prefix_only_predictions", p.targets},
              {"dataset", data.name()},
              {"dataset_hash", data.hash}};
  if (r.leaks) out["label"] = "LEAKS";
  if (!a.json.empty()) write_file_atomically(a.json, out.dump(2) + "\n");
  fmt::print("{}\n", r.checkpoint);
  fmt::print("train, teacher-forced           {:.4f} nats  perplexity {:.3f}{}\n", t.loss,
             std::exp(t.loss), label);
  fmt::print("validation, teacher-forced      {:.4f} nats  perplexity {:.3f}{}  ({} predictions)\n",
             v.loss, std::exp(v.loss), label, v.targets);
  fmt::print("validation, prefix-only         {:.4f} nats  perplexity {:.3f}{}  ({} predictions)\n",
             p.loss, std::exp(p.loss), label, p.targets);
  fmt::print("  teacher-forced, same windows  {:.4f} nats{}\n", same.loss, label);
}

}  // namespace

void add_eval_command(CLI::App& app) {
  auto* command = app.add_subcommand("eval", "Losses of a run: teacher-forced beside prefix-only");
  auto a = std::make_shared<EvalArguments>();
  command->add_option("run", a->run, "run directory")->required();
  command->add_option("--windows", a->windows, "validation windows, 0: all")->capture_default_str();
  command->add_option("--prefix-only-windows", a->prefix_windows, "windows scored prefix by prefix")
      ->capture_default_str();
  command->add_option("--batch-size", a->batch_size, "windows per forward")->capture_default_str();
  command->add_option("--json", a->json, "also write the figures to this file");
  command->callback([a] { run(*a); });
}

}  // namespace reverie
