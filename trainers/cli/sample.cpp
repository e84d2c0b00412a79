#include <fmt/format.h>

#include <cstdio>

#include "core/error.h"
#include "core/log.h"
#include "trainers/cli/arguments.h"
#include "trainers/cli/commands.h"
#include "trainers/evaluation/generate.h"
#include "trainers/training/trainer.h"

namespace reverie {
namespace {

struct SampleArguments {
  std::string run, prompt = "\n";
  GenerateOptions generate{.max_tokens = 500, .temperature = 0.8, .top_k = 0, .seed = 1337};
  bool greedy = false;
};

void run(const SampleArguments& a) {
  const LoadedRun r = load_run(a.run);
  if (!r.tokenizer)
    throw UserError(fmt::format(
        "{} was trained on token files without a tokenizer: there is no text to print", a.run));
  if (r.leaks)
    log_warning(
        "LEAKS: this model was trained on what lies ahead, which is not there when it writes");
  GenerateOptions options = a.generate;
  if (a.greedy) options.temperature = 0;
  // Printed as it comes; bytes of an unfinished character wait for the rest.
  std::vector<int32_t> pending;
  generate(*r.model, r.tokenizer->encode(a.prompt), options, [&](int32_t token) {
    pending.push_back(token);
    const std::string text = r.tokenizer->decode(pending);
    if (!text.empty() && text.ends_with("\xEF\xBF\xBD") && pending.size() < 4) return;
    std::fwrite(text.data(), 1, text.size(), stdout);
    std::fflush(stdout);
    pending.clear();
  });
  std::fputc('\n', stdout);
}

}  // namespace

void add_sample_command(CLI::App& app) {
  auto* command = app.add_subcommand("sample", "Let a run's model write");
  auto a = std::make_shared<SampleArguments>();
  command->add_option("run,--model", a->run, "run directory")->required();
  command
      ->add_option("--prompt", a->prompt, "what the text begins with (not repeated in the output)")
      ->capture_default_str();
  command->add_option("--max-tokens", a->generate.max_tokens, "length")->capture_default_str();
  command->add_option("--temperature", a->generate.temperature, "0: always the likeliest token")
      ->capture_default_str();
  command->add_option("--top-k", a->generate.top_k, "sample among the k likeliest; 0: among all")
      ->capture_default_str();
  command->add_option("--seed", a->generate.seed, "of the draws")->capture_default_str();
  command->add_flag("--greedy", a->greedy, "the same as --temperature 0");
  command->callback([a] { run(*a); });
}

}  // namespace reverie
