#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <cstdio>
#include <nlohmann/json.hpp>
#include <system_error>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "layers/coprocessor/augmented_model.h"
#include "trainers/cli/arguments.h"
#include "trainers/cli/commands.h"
#include "trainers/cli/sample_latents.h"
#include "trainers/cli/sample_prompts.h"
#include "trainers/evaluation/model_source.h"
#include "trainers/evaluation/written_text.h"
#include "trainers/generation/explanation.h"
#include "trainers/generation/generate.h"
#include "trainers/runs/output_files.h"
#include "trainers/text/terminal.h"

namespace reverie {
namespace {

struct SampleArguments {
  std::string model, explain, tokenizer, prompt = "\n", json, texts;
  GenerateOptions generate{.max_tokens = 500, .temperature = 0.8, .top_k = 0, .seed = 1337};
  int64_t samples = 1;
  LatentArguments latents;
  bool greedy = false, past_end = false;
  PromptArguments prompts;

  SharedArguments shared() const {
    const std::string coprocessor = latents.runs.empty() ? "" : latents.runs.front();
    SharedArguments out{model,    coprocessor, tokenizer,    prompt,        json,    texts,
                        generate, samples,     latents.late, latents.every, past_end};
    if (greedy) out.generate.temperature = 0;
    return out;
  }
};

using Clock = std::chrono::steady_clock;
double seconds_between(Clock::time_point begin, Clock::time_point end) {
  return std::chrono::duration<double>(end - begin).count();
}

void print(const std::string& text) {
  const bool written = std::fwrite(text.data(), 1, text.size(), stdout) == text.size();
  if (!written || std::fflush(stdout) != 0)
    throw std::system_error(errno, std::generic_category(), "cannot write to standard output");
}

// Texts generated at once: more would not be faster, and their caches take memory.
constexpr int64_t kTogether = 32;

// {"text": TEXT} for each text.
void write_lines(const Json& samples, const std::string& file) {
  std::string lines;
  for (const Json& sample : samples)
    lines += json_text_replacing(Json{{"text", sample["text"]}}) + "\n";
  write_file_atomically(file, lines);
}

// Lets the model write after the prompt and prints it -> {"tokens", "text"} or {"samples": [..]},
// and the speed. The texts go to `lines`, too, if it is named: many of them as they are written, so
// that whoever stops the program keeps what there is.
Json write_texts(LanguageModel& model, const Tokenizer& tokenizer,
                 const std::vector<int32_t>& prompt, int64_t count, const GenerateOptions& options,
                 const std::string& lines) {
  // One text is shown as it comes, several one after the other.
  const bool live = count == 1;
  std::vector<std::string> texts(static_cast<size_t>(std::max<int64_t>(1, count)));
  std::vector<StreamDecoder> decoders(texts.size(), StreamDecoder(tokenizer, true));
  const auto show = [&](int64_t i, const std::string& more) {
    texts[size_t(i)] += more;
    if (live) print(more);
  };
  const auto begin = Clock::now();
  double to_first = 0, after_first = 0;  // seconds to the first token, and from it, of all pieces
  size_t kept = 0;                       // texts that are in the file
  Json samples = Json::array();
  size_t later = 0;  // tokens after the first ones, which come with the prompt
  while (int64_t(samples.size()) < count) {
    const auto done = int64_t(samples.size());
    GenerateOptions part = options;
    part.seed += uint64_t(done);
    const auto piece = Clock::now();
    Clock::time_point first = piece, last = piece;  // tokens
    const auto write = [&](int64_t i, int32_t token) {
      last = Clock::now();
      if (first == piece) first = last;
      show(done + i, decoders[size_t(done + i)].next(token));
    };
    const auto written =
        generate_samples(model, prompt, std::min(kTogether, count - done), part, write);
    if (done == 0) to_first = seconds_between(begin, first);
    after_first += seconds_between(first, last);
    for (const auto& tokens : written) {
      const size_t i = samples.size();
      show(int64_t(i), decoders[i].finish());
      print(live ? "\n" : fmt::format("---- {} of {}\n{}\n", i + 1, count, texts[i]));
      samples.push_back({{"tokens", tokens}, {"text", texts[i]}});
      later += tokens.empty() ? 0 : tokens.size() - 1;
    }
    // All again, now and then: a tenth more than there were.
    if (!lines.empty() &&
        (samples.size() >= kept + kept / 10 || int64_t(samples.size()) == count)) {
      write_lines(samples, lines);
      kept = samples.size();
    }
    if (count > kTogether)
      log_info("{} of {} texts written{}", samples.size(), count,
               lines.empty() ? "" : fmt::format(", {} of them to {}", kept, lines));
  }
  Json out = live ? samples[0] : Json{{"samples", samples}};
  out["first_token_seconds"] = to_first;
  out["tokens_per_second"] = later > 0 ? Json(double(later) / after_first) : Json();
  return out;
}

// A decoder's text about the memory that the prompt left in the run's model.
Json print_explanation(const UsableModel& m, const std::vector<int32_t>& prompt,
                       const SampleArguments& a) {
  const Explanation explanation = explain(m, prompt, a.explain, a.tokenizer);
  if (!explanation.verdict.label().empty()) log_warning("{}", explanation.verdict.line());
  if (const std::string unlike = explanation.unlike_training(); !unlike.empty())
    log_warning("{}, and this prompt has {}: what it writes says little about the memory", unlike,
                explanation.length);
  print(explanation.text());
  return explanation.json();
}

void run(const SampleArguments& a) {
  require_outputs({{"--json", a.json}, {"--texts", a.texts}},
                  {{"the model", a.model}, {"the tokenizer (--tokenizer)", a.tokenizer}});
  a.latents.require_consistent(a.samples);
  if (a.prompts.given()) {
    require(a.explain.empty(),
            "--explain goes with one plain --prompt: leave --prompts, --chat, --stop and "
            "--logprobs out");
    require(a.latents.runs.size() <= 1 && !a.latents.async,
            "--prompts, --chat, --stop and --logprobs go with one --coprocessor, and not with "
            "--async");
    return sample_prompts(a.prompts, a.shared());
  }
  // A coprocessor's tokenizer serves the base, too.
  std::vector<OpenedCoprocessor> coprocessors = open_coprocessors(a.latents, a.tokenizer);
  const UsableModel m = open_language_model(
      a.model, {a.tokenizer, coprocessors.empty() ? nullptr : coprocessors.front().run.tokenizer});
  const auto warn = [](const UsableModel& opened) {
    if (opened.verdict.leaks())
      log_warning("{}: it was trained on tokens ahead, which do not exist when it generates",
                  opened.verdict.line());
    else if (!opened.verdict.label().empty())
      log_warning("{}", opened.verdict.line());
  };
  warn(m);
  GenerateOptions options = a.generate;
  if (a.greedy) options.temperature = 0;
  if (!a.past_end) options.ends = m.ends;
  options.vocabulary = m.text().vocabulary_size();
  const std::vector<int32_t> prompt = prompt_tokens(m.text(), a.prompt, m.model->vocabulary_size());
  Json out = {{"model", m.description}, {"prompt", a.prompt}, {"prompt_tokens", prompt}};
  Verdict verdict = m.verdict;
  if (coprocessors.empty()) {
    if (const auto* augmented = dynamic_cast<const AugmentedModel*>(m.model.get())) {
      print(fit_terminal(
          STDOUT_FILENO,
          fmt::format(
              "==== the base alone, without the run's {} latents (with them: --coprocessor {})\n",
              augmented->options().latents.type, a.model)));
      out["latents"] = 0;
    }
    out.update(write_texts(*m.model, m.text(), prompt, a.samples, options, a.texts));
  } else {
    put_beside(coprocessors, m, a.model);
    for (const OpenedCoprocessor& c : coprocessors) {
      warn(c.run);
      verdict.merge(c.run.verdict);
    }
    const auto write = [&](LanguageModel& model, const GenerateOptions& with) {
      return write_texts(model, m.text(), prompt, a.samples, with, "");
    };
    write_with_latents(coprocessors, prompt, a.latents, options, write, out);
    const Json& written = out["with_latents"];
    if (!a.texts.empty())
      write_lines(written.contains("samples") ? written["samples"] : Json{written}, a.texts);
  }
  if (!a.explain.empty()) out["explained"] = print_explanation(m, prompt, a);
  if (a.json.empty()) return;
  if (verdict.asked() || verdict.leaks()) out["verdict"] = verdict.json();
  if (!verdict.label().empty()) out["label"] = verdict.label();
  // A text may end inside a character.
  write_file_atomically(a.json, json_text_replacing(out, 2) + "\n");
}

}  // namespace

void add_sample_command(CLI::App& app) {
  auto* command = app.add_subcommand("sample",
                                     "Generate text with a run's model or a pretrained "
                                     "one");
  auto a = std::make_shared<SampleArguments>();
  command->add_option("run,--model", a->model, kModelPathHelp)->required();
  command->add_option("--tokenizer", a->tokenizer,
                      "a tokenizer's file or directory, if the model comes without one");
  a->latents.add_to(*command);
  command->add_option(
      "--explain", a->explain,
      "a run that trained a decoder of this run's memory (\"explained\"): prints besides what it "
      "writes of the memory that the prompt left. Without it no decoder is loaded");
  command
      ->add_option("--prompt", a->prompt, "the beginning of the text (not repeated in the output)")
      ->default_str("\"\\n\"");
  command->add_option("--max-tokens", a->generate.max_tokens, "length")->capture_default_str();
  command
      ->add_option(
          "--samples", a->samples,
          "number of texts after the same prompt, generated together; the first equals the one "
          "generated alone")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      ->add_option("--temperature", a->generate.temperature,
                   "sampling temperature; 0: always "
                   "the likeliest token")
      ->capture_default_str();
  command->add_option("--top-k", a->generate.top_k, "sample among the k likeliest; 0: among all")
      ->capture_default_str();
  command
      ->add_option("--top-p", a->generate.top_p,
                   "sample among the fewest likeliest tokens that hold this probability; 1: among "
                   "all")
      ->capture_default_str();
  command
      ->add_option("--min-p", a->generate.min_p,
                   "sample among the tokens at least this many times as likely as the likeliest; "
                   "0: among all")
      ->capture_default_str();
  command
      ->add_option("--repetition-penalty", a->generate.repetition_penalty,
                   "divide the logits of tokens that the prompt or the text holds (multiply where "
                   "negative); 1: none")
      ->capture_default_str();
  command->add_option("--seed", a->generate.seed, "seed of the random draws")
      ->capture_default_str();
  a->prompts.add_to(*command);
  command->get_option("--prompts")->excludes(command->get_option("--prompt"));
  auto* greedy = command->add_flag("--greedy", a->greedy, "the same as --temperature 0");
  for (const char* of_draws : {"--temperature", "--top-k", "--top-p", "--min-p"})
    greedy->excludes(command->get_option(of_draws));
  command->add_flag("--past-end", a->past_end, "continue after the end-of-text token");
  command->add_option("--texts", a->texts,
                      "also write each text to this file as a line {\"text\": ...}, which training "
                      "reads as documents (.jsonl; with --coprocessor: the texts with latents)");
  command->add_option("--json", a->json,
                      "also write prompt, text, token ids and speed to this file");
  command->callback([a] { run(*a); });
}

}  // namespace reverie
