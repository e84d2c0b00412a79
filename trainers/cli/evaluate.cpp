#include <fmt/format.h>
#include <unistd.h>

#include <cmath>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "datasets/benchmarks/answers.h"
#include "layers/kept_weights.h"
#include "trainers/cli/arguments.h"
#include "trainers/cli/commands.h"
#include "trainers/cli/evaluate_run.h"
#include "trainers/cli/evaluate_task.h"
#include "trainers/evaluation/insertion_losses.h"
#include "trainers/evaluation/model_source.h"
#include "trainers/evaluation/perplexity.h"
#include "trainers/probes/forward_audit.h"
#include "trainers/runs/output_files.h"
#include "trainers/runs/run_directory.h"
#include "trainers/runs/run_reference.h"
#include "trainers/text/activity.h"
#include "trainers/text/terminal.h"

namespace reverie {
namespace {

struct EvalArguments {
  std::string model, json;
  EvalRunArguments run;
  TaskArguments task;
  // For any model on a text.
  OpenOptions open;
  std::string text, characters;
  PerplexityOptions perplexity;
  InsertionRule insertions;  // of a model with latents; its positions are the model's
  bool insertions_given = false;
};

// Characters A to B (half-open) of a text; either may be left out.
std::string_view characters_of(std::string_view text, const std::string& range) {
  if (range.empty()) return text;
  const auto refuse = [&] {
    throw ConfigError(fmt::format(
        "--chars {}: wanted A:B, two positions in characters with A less than B", range));
  };
  const size_t colon = range.find(':');
  const auto number = [&](const std::string& digits, int64_t otherwise) {
    if (digits.empty()) return otherwise;
    if (digits.size() > 15 || digits.find_first_not_of("0123456789") != std::string::npos) refuse();
    return int64_t(std::stoll(digits));
  };
  if (colon == std::string::npos) refuse();
  const int64_t begin = number(range.substr(0, colon), 0),
                end = number(range.substr(colon + 1), INT64_MAX);
  if (begin >= end) refuse();
  // A character begins at every byte that continues none.
  int64_t seen = 0;
  size_t first = text.size(), last = text.size();
  for (size_t i = 0; i < text.size(); ++i) {
    if ((uint8_t(text[i]) & 0xC0) == 0x80) continue;
    if (seen == begin) first = i;
    if (seen == end) {
      last = i;
      break;
    }
    ++seen;
  }
  require(first < text.size() && (end == INT64_MAX || seen >= end),
          "--chars {}: the text has only {} characters", range, seen);
  return text.substr(first, last - first);
}

// Everything that an evaluation on a text found.
struct TextFigures {
  std::string file_hash;
  size_t file_bytes = 0;
  PerplexityResult plain;
  std::optional<AugmentedResult> augmented;  // behind latents, where the model has such
  std::optional<int32_t> begin_of_text;
  Verdict verdict;
  int64_t tokens() const { return plain.tokens + (begin_of_text ? 1 : 0); }
};

TextFigures measure_text(const UsableModel& m, const EvalArguments& a) {
  const std::string file = read_file(a.text);
  TextFigures out;
  out.file_hash = hash_bytes(file.data(), file.size());
  out.file_bytes = file.size();
  out.begin_of_text = m.begin_of_text();
  PerplexityOptions options = a.perplexity;
  options.begin_of_text = out.begin_of_text;
  ForwardAudit audit = ForwardAudit::once(m.step);
  options.audit = &audit;
  auto* augmented = dynamic_cast<AugmentedModel*>(m.model.get());
  InsertionRule rule;
  AugmentedSum behind_latents;
  if (augmented) {
    rule = InsertionRule::of(*augmented);
    rule.points = a.insertions.points;
    options.each_window = [&](const Tensor& read, const Tensor& wanted) {
      behind_latents += augmented_sum(*augmented, read, wanted, rule, &audit);
    };
  }
  Activity activity("perplexity: windows");
  out.plain = perplexity(*m.model, m.text(), characters_of(file, a.characters), options,
                         [&](int64_t done, int64_t all) { activity.reach(done, all); });
  if (augmented) out.augmented = behind_latents.mean(rule);
  out.verdict = m.verdict;
  out.verdict.merge(audit.verdict());
  return out;
}

Json figures_json(const UsableModel& m, const EvalArguments& a, const TextFigures& f) {
  const PerplexityResult& r = f.plain;
  Json out = {{"model", m.description},
              {"text", a.text},
              {"text_bytes", f.file_bytes},
              {"text_hash", f.file_hash},
              {"chars", a.characters.empty() ? Json() : Json(a.characters)},
              {"tokens", f.tokens()},
              {"window", r.window},
              {"stride", r.stride},
              {"max_windows", a.perplexity.max_windows},
              {"insertions", f.augmented ? Json(a.insertions.points) : Json()},
              {"windows", r.windows},
              {"predictions", r.predictions},
              {"bytes", r.bytes},
              {"words", r.words},
              {"nll", r.nll()},
              {"perplexity", r.perplexity()},
              {"word_perplexity", r.word_perplexity()},
              {"bits_per_byte", r.bits_per_byte()},
              {"begin_of_text", f.begin_of_text ? Json(*f.begin_of_text) : Json()},
              {"weights_bytes", kept_weights(*m.model).bytes}};
  if (f.verdict.asked() || f.verdict.leaks()) out["verdict"] = f.verdict.json();
  if (!f.verdict.label().empty()) out["label"] = f.verdict.label();
  if (f.augmented) {
    out["augmented"] = f.augmented->json();
    out["augmented"]["perplexity"] = std::exp(f.augmented->loss);
    out["augmented"]["base_perplexity_on_same_predictions"] = std::exp(f.augmented->base_loss);
  }
  return out;
}

std::string figures_text(const UsableModel& m, const EvalArguments& a, const TextFigures& f) {
  const PerplexityResult& r = f.plain;
  const std::string mark = f.verdict.mark();
  std::string out = m.description + "\n";
  out += fmt::format("text            {}  ({} bytes{})\n", with_replacements(a.text), f.file_bytes,
                     a.characters.empty() ? "" : ", of them characters " + a.characters);
  if (f.augmented) out += "the base of this run, without latents, every token:\n";
  out += fmt::format(
      "tokens          {}  ({})\n", f.tokens(),
      f.begin_of_text ? fmt::format("begin-of-text token {} before every window", *f.begin_of_text)
                      : "no begin-of-text token");
  out += fmt::format("predictions     {} in {} windows\n", r.predictions, r.windows);
  out += fmt::format("loss            {:.5f} nats per token{}\n", r.nll(), mark);
  out += fmt::format("perplexity      {:.4f} per token, {:.4g} per word{}\n", r.perplexity(),
                     r.word_perplexity(), mark);
  out += fmt::format("bits per byte   {:.4f}{}\n", r.bits_per_byte(), mark);
  if (const auto& e = f.augmented)
    out += fmt::format(
        "behind latents  perplexity {:.4f} per token{}, the base's there {:.4f}\n"
        "                {} predictions: {}\n",
        std::exp(e->loss), mark, std::exp(e->base_loss), e->predictions, e->where());
  return out;
}

void evaluate_text(const EvalArguments& a) {
  const UsableModel m = open_language_model(a.model, a.open);
  if (a.insertions_given && !dynamic_cast<const AugmentedModel*>(m.model.get()))
    throw ConfigError(
        fmt::format("--insertions says where latents go, and {} has none: name a run of type "
                    "\"augmented\", or leave it out",
                    a.model));
  if (!m.verdict.label().empty()) log_warning("{}", m.verdict.line());
  const TextFigures figures = measure_text(m, a);
  if (!a.json.empty())
    write_file_atomically(a.json, json_text_replacing(figures_json(m, a, figures), 2) + "\n");
  fmt::print("{}", fit_terminal(STDOUT_FILENO, figures_text(m, a, figures)));
  if (const auto run = find_run(a.model)) keep_leak(run->directory, figures.verdict);
  report_verdict(m.verdict, figures.verdict);
}

void add_text_options(CLI::App& command, EvalArguments& a, CLI::Option* text) {
  command.add_option("--tokenizer", a.open.tokenizer,
                     "of --text and --task: a tokenizer's file or directory, if the model comes "
                     "without one");
  command.add_flag("--f64", a.open.f64, std::string("of --text and --task: ") + kF64Help);
  command.add_option("--chars", a.characters, "A:B: only the characters from A to B of the text")
      ->needs(text);
  command
      .add_option("--window", a.perplexity.window,
                  "tokens of text in one forward; 0: the model's maximum")
      ->needs(text)
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--stride", a.perplexity.stride,
                  "tokens from the start of one window to the start of the next; 0: the same as "
                  "--window. A smaller stride makes windows overlap: every token is still "
                  "predicted once, with more text before it")
      ->needs(text)
      ->check(CLI::NonNegativeNumber);
  command
      .add_option("--max-windows", a.perplexity.max_windows, "stop after this many windows; 0: all")
      ->needs(text)
      ->check(CLI::NonNegativeNumber);
}

void add_run_options(CLI::App& command, EvalRunArguments& a, CLI::Option* text) {
  command.add_option("--windows", a.windows, "validation windows of the run's own data; 0: all")
      ->capture_default_str()
      ->excludes(text);
  command
      .add_option("--prefix-only-windows", a.prefix_windows,
                  "validation windows of the run's own data that are scored from each prefix "
                  "alone")
      ->capture_default_str()
      ->excludes(text);
  command.add_option("--batch-size", a.batch_size, "windows of the run's own data in one forward")
      ->capture_default_str()
      ->excludes(text);
  command
      .add_flag("--other-data", a.other_data,
                "score the run's text even if it has changed since training; the figures are "
                "labelled")
      ->excludes(text);
}

void add_latent_options(CLI::App& command, InsertionRule& insertions, CLI::Option* text) {
  command
      .add_option("--insertions", insertions.points,
                  "for a model with latents: insertion points in each window, drawn by the text "
                  "itself; 0: after every token")
      ->capture_default_str()
      ->needs(text)
      ->check(CLI::NonNegativeNumber);
}

void evaluate(const EvalArguments& a) {
  require_outputs({{"--json", a.json}, {"--log-samples", a.task.sample_log}},
                  {{"the model", a.model},
                   {"the tokenizer (--tokenizer)", a.open.tokenizer},
                   {"the text (--text)", a.text},
                   {"the task's definition (--task)", a.task.task},
                   {"the items (--data)", a.task.data},
                   {"the other model's log (--against)", a.task.against}});
  if (!a.text.empty()) return evaluate_text(a);
  if (!a.task.task.empty()) return evaluate_task(a.model, a.open, a.json, a.task);
  if (!a.open.tokenizer.empty())
    throw ConfigError(
        "--tokenizer belongs to --text and --task: a run's own data is in tokens already");
  if (a.open.f64)
    throw ConfigError(
        "--f64 belongs to --text and --task: a run is measured on its own data in the type that it "
        "was trained in");
  if (!names_run(a.model))
    throw ConfigError(fmt::format(
        "{} is no run directory, so it has no data of its own: name a text (--text FILE) or "
        "a benchmark (--task NAME)",
        a.model));
  evaluate_run(a.model, a.json, a.run);
}

}  // namespace

void add_eval_command(CLI::App& app) {
  auto* command = app.add_subcommand(
      "eval",
      "Measure how well a model predicts: a run on its own data (teacher-forced and "
      "prefix-only), any model on a text (--text; perplexity per token and word, bits per "
      "byte), or on a benchmark (--task)");
  auto a = std::make_shared<EvalArguments>();
  command->add_option("run,--model", a->model, kModelPathHelp)->required();
  command->add_option("--json", a->json, "also write the figures to this file");
  auto* text = command->add_option("--text", a->text, "a UTF-8 file to predict");
  add_text_options(*command, *a, text);
  add_run_options(*command, a->run, text);
  add_latent_options(*command, a->insertions, text);
  add_task_options(
      *command, a->task,
      {"--text", "--windows", "--prefix-only-windows", "--batch-size", "--other-data"});
  command->callback([a, command] {
    a->insertions_given = command->get_option("--insertions")->count() > 0;
    evaluate(*a);
  });
}

}  // namespace reverie
