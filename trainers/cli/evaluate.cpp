#include <fmt/format.h>

#include <cmath>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "trainers/cli/arguments.h"
#include "trainers/cli/commands.h"
#include "layers/coprocessor/augmented_model.h"
#include "trainers/evaluation/answer_accuracy.h"
#include "trainers/evaluation/canary.h"
#include "trainers/evaluation/evaluate.h"
#include "trainers/evaluation/model_source.h"
#include "trainers/evaluation/perplexity.h"
#include "trainers/training/trainer.h"

namespace reverie {
namespace {

struct EvalArguments {
  std::string model, json;
  // Of a run on its own data.
  int64_t windows = 0, prefix_windows = 64, batch_size = 32;
  // Of any model on a text.
  std::string text, tokenizer, characters;
  PerplexityOptions perplexity;
};

void write(const std::string& file, const Json& figures) {
  if (!file.empty()) write_file_atomically(file, json_text(figures, 2) + "\n");
}

void evaluate_run(const EvalArguments& a) {
  const LoadedRun r = load_run(a.model);
  const Dataset data = open_dataset(r.options.data);
  const auto of = [&](const TokenFile& tokens, int64_t count) {
    return EvaluationWindows::over(tokens, data.examples, a.batch_size, r.model->block_size(),
                                   count);
  };
  const EvaluationWindows val = of(data.validation, a.windows),
                          train = of(data.train, val.window_count()),
                          prefix = of(data.validation, a.prefix_windows);
  const EvaluationResult t = evaluate(*r.model, train), v = evaluate(*r.model, val);
  // The figures of this evaluation are asked as the run's own were.
  const bool augmented = dynamic_cast<AugmentedModel*>(r.model.get()) != nullptr;
  const PrefixScores scores =
      score_prefixes(*r.model, prefix, single_communicator(), r.step, augmented);
  const EvaluationResult p = scores.prefix_only, same = scores.same_windows;
  Verdict verdict = r.verdict;
  verdict.merge(scores.verdict);
  const std::string label = verdict.mark();
  Json out = {{"run", a.model},
              {"checkpoint", r.checkpoint},
              {"train_loss", t.loss},
              {"val_loss", v.loss},
              {"val_loss_prefix_only", p.loss},
              {"val_loss_on_prefix_only_windows", same.loss},
              {"predictions", v.targets},
              {"prefix_only_predictions", p.targets},
              {"dataset", data.name()},
              {"dataset_hash", data.hash},
              {"verdict", verdict.json()}};
  if (verdict.leaks()) out["label"] = verdict.label();
  std::string answers;
  if (data.examples) {
    const AnswerAccuracy right =
        answer_accuracy(*r.model, data.validation, *data.examples, a.windows);
    out["answers"] = {{"right", right.right}, {"of", right.examples}};
    answers = fmt::format("validation, answers            {} of {} right ({:.1f} %){}\n",
                          right.right, right.examples, 100 * right.share(), label);
  }
  write(a.json, out);
  fmt::print("{}\n{}", r.checkpoint, answers);
  fmt::print("train, teacher-forced           {:.4f} nats  perplexity {:.3f}{}\n", t.loss,
             std::exp(t.loss), label);
  fmt::print("validation, teacher-forced      {:.4f} nats  perplexity {:.3f}{}  ({} predictions)\n",
             v.loss, std::exp(v.loss), label, v.targets);
  fmt::print("validation, prefix-only         {:.4f} nats  perplexity {:.3f}{}  ({} predictions)\n",
             p.loss, std::exp(p.loss), label, p.targets);
  fmt::print("  teacher-forced, same windows  {:.4f} nats{}\n", same.loss, label);
}

// Characters A to B (half-open) of a text; either may be left out.
std::string_view characters_of(std::string_view text, const std::string& range) {
  if (range.empty()) return text;
  const auto refuse = [&] {
    throw ConfigError(
        fmt::format("--chars {}: wanted A:B, two numbers of characters, the first less", range));
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
  require(first < text.size(), "--chars {}: the text has only {} characters", range, seen);
  return text.substr(first, last - first);
}

void evaluate_text(const EvalArguments& a) {
  const UsableModel m = open_model(a.model, a.tokenizer);
  const std::string file = read_file(a.text);
  PerplexityOptions options = a.perplexity;
  options.begin_of_text = m.begin_of_text();
  if (m.verdict.leaks()) log_warning("{}", m.verdict.line());
  const PerplexityResult r =
      perplexity(*m.model, m.text(), characters_of(file, a.characters), options,
                 [&](int64_t done, int64_t all) {
                   if (all > 1) log_info("window {}/{}", done, all);
                 });
  const int64_t count = r.tokens + (options.begin_of_text ? 1 : 0);
  Json out = {{"model", m.description},
              {"text", a.text},
              {"tokens", count},
              {"windows", r.windows},
              {"predictions", r.predictions},
              {"bytes", r.bytes},
              {"words", r.words},
              {"nll", r.nll()},
              {"perplexity", r.perplexity()},
              {"word_perplexity", r.word_perplexity()},
              {"bits_per_byte", r.bits_per_byte()},
              {"begin_of_text", options.begin_of_text ? Json(*options.begin_of_text) : Json()}};
  if (m.verdict.asked() || m.verdict.leaks()) out["verdict"] = m.verdict.json();
  if (m.verdict.leaks()) out["label"] = m.verdict.label();
  write(a.json, out);
  fmt::print("{}\n", m.description);
  fmt::print("tokens          {}  ({})\n", count,
             options.begin_of_text
                 ? fmt::format("begin-of-text token {} before every window", *options.begin_of_text)
                 : "no begin-of-text token");
  fmt::print("predictions     {} in {} windows\n", r.predictions, r.windows);
  fmt::print("loss            {:.5f} nats per token\n", r.nll());
  fmt::print("perplexity      {:.4f} per token, {:.4g} per word\n", r.perplexity(),
             r.word_perplexity());
  fmt::print("bits per byte   {:.4f}\n", r.bits_per_byte());
}

}  // namespace

void add_eval_command(CLI::App& app) {
  auto* command = app.add_subcommand(
      "eval",
      "How well a model predicts: a run on its own data, teacher-forced beside prefix-only; any "
      "model on a text (--text), as perplexity per token, word and byte");
  auto a = std::make_shared<EvalArguments>();
  command->add_option("run,--model", a->model, kModelPathHelp)->required();
  command->add_option("--json", a->json, "also write the figures to this file");
  auto* text = command->add_option("--text", a->text, "a UTF-8 file to predict");
  command
      ->add_option("--tokenizer", a->tokenizer,
                   "a tokenizer's file or directory, where none lies with the model")
      ->needs(text);
  command->add_option("--chars", a->characters, "A:B, only these characters of the text")
      ->needs(text);
  command
      ->add_option("--window", a->perplexity.window,
                   "tokens of text in one forward; 0: as many as the model takes")
      ->needs(text)
      ->check(CLI::NonNegativeNumber);
  command
      ->add_option("--stride", a->perplexity.stride,
                   "tokens from one window to the next; less than --window: windows overlap, and "
                   "every token is predicted once with more before it; 0: the window")
      ->needs(text)
      ->check(CLI::NonNegativeNumber);
  command->add_option("--max-windows", a->perplexity.max_windows, "stop after these; 0: all")
      ->needs(text)
      ->check(CLI::NonNegativeNumber);
  command->add_option("--windows", a->windows, "validation windows of a run's own data, 0: all")
      ->capture_default_str()
      ->excludes(text);
  command
      ->add_option("--prefix-only-windows", a->prefix_windows,
                   "windows of a run's own data scored prefix by prefix")
      ->capture_default_str()
      ->excludes(text);
  command->add_option("--batch-size", a->batch_size, "windows per forward, of a run's own data")
      ->capture_default_str()
      ->excludes(text);
  command->callback([a] {
    if (!a->json.empty()) require_writable(a->json);
    if (!a->text.empty()) return evaluate_text(*a);
    if (!is_run_directory(a->model))
      throw ConfigError(fmt::format(
          "{} is no run directory, so it has no data of its own: name a text (--text FILE)",
          a->model));
    evaluate_run(*a);
  });
}

}  // namespace reverie
