#include "core/error.h"
#include "trainers/cli/arguments.h"
#include "trainers/cli/commands.h"
#include "trainers/serving/server.h"

namespace reverie {
namespace {

struct ServeArguments {
  std::string model, coprocessor;
  OpenOptions open;
  std::optional<int64_t> late;
  int64_t every = 0;
  ServeOptions options;
};

void run(const ServeArguments& a) {
  ServedModel model(a.model, a.coprocessor, a.open, a.late, a.every);
  require(a.options.requests.latents_behind.empty() || model.augmented(),
          "--latents-behind applies to the latents of a --coprocessor: name one, or remove it");
  exit_with(128 + serve(model, a.options));
}

void add_limits(CLI::App& command, ServeOptions& o) {
  command.add_option("--max-body", o.http.body_bytes, "longest request, in bytes")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      .add_option("--max-prompt", o.requests.prompt_tokens,
                  "longest prompt, in tokens; 0: what the model's context takes")
      ->check(CLI::NonNegativeNumber)
      ->capture_default_str();
  command.add_option("--queue", o.worker.queue, "requests that may wait; more are refused (503)")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command.add_option("--texts", o.worker.texts, "texts that are written side by side")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
  command
      .add_option("--connections", o.http.connections,
                  "requests that are read at once; each takes a thread")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  command.add_option("--time-limit", o.time_limit, "seconds for a request, waiting included")
      ->check(CLI::PositiveNumber)
      ->capture_default_str();
}

}  // namespace

void add_serve_command(CLI::App& app) {
  auto* command = app.add_subcommand(
      "serve",
      "Offer a model to OpenAI's clients and lm-eval: completions and log-probabilities "
      "over HTTP");
  auto a = std::make_shared<ServeArguments>();
  command->add_option("run,--model", a->model, kModelPathHelp)->required();
  command->add_option("--tokenizer", a->open.tokenizer,
                      "a tokenizer's file or directory, if the model comes without one");
  command->add_flag("--f64", a->open.f64, kF64Help);
  command->add_option("--coprocessor", a->coprocessor,
                      "a run that trained latents beside this model (\"augmented\"): it is served "
                      "under a second name, MODEL+RUN");
  command
      ->add_option("--latents-late", a->late,
                   "the latents arrive this many tokens after the text that they were made from "
                   "(default: the run's own delay, or 0)")
      ->check(CLI::NonNegativeNumber);
  command
      ->add_option("--latents-every", a->every,
                   "make the latents anew after every so many tokens of an answer, in place of the "
                   "old ones; 0: once, behind the prompt")
      ->capture_default_str()
      ->check(CLI::NonNegativeNumber);
  command->add_option("--latents-behind", a->options.requests.latents_behind,
                      "in a prompt that is scored, latents go in behind the last place where this "
                      "text ends, as \"Answer:\"; without it, requests say where (latents_after)");
  command
      ->add_option("--host", a->options.host,
                   "address to listen on; 0.0.0.0 lets other machines in")
      ->capture_default_str();
  command->add_option("--port", a->options.port, "0: any that is free; it is printed")
      ->check(CLI::Range(0, 65535))
      ->capture_default_str();
  add_limits(*command, a->options);
  command->callback([a] { run(*a); });
}

}  // namespace reverie
