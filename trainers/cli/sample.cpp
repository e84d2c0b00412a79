#include <fmt/format.h>

#include <cstdio>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "trainers/cli/arguments.h"
#include "trainers/cli/commands.h"
#include "trainers/evaluation/generate.h"
#include "trainers/evaluation/model_source.h"

namespace reverie {
namespace {

struct SampleArguments {
  std::string model, tokenizer, prompt = "\n", json;
  GenerateOptions generate{
      .max_tokens = 500, .temperature = 0.8, .top_k = 0, .seed = 1337, .end_of_text = {}};
  bool greedy = false, past_end = false;
};

void print(const std::string& text) {
  std::fwrite(text.data(), 1, text.size(), stdout);
  std::fflush(stdout);
}

void run(const SampleArguments& a) {
  const UsableModel m = open_model(a.model, a.tokenizer);
  if (m.leaks)
    log_warning(
        "LEAKS: this model was trained on what lies ahead, which is not there when it writes");
  GenerateOptions options = a.generate;
  if (a.greedy) options.temperature = 0;
  if (!a.past_end) options.end_of_text = m.end_of_text;
  const std::vector<int32_t> prompt = m.text().encode_from_beginning(a.prompt);
  StreamDecoder decoder(m.text(), true);
  std::string text;
  const auto show = [&](const std::string& more) {
    text += more;
    print(more);
  };
  const std::vector<int32_t> tokens =
      generate(*m.model, prompt, options, [&](int32_t token) { show(decoder.next(token)); });
  show(decoder.finish());
  print("\n");
  if (!a.json.empty()) {
    const Json out = {{"model", m.description},
                      {"prompt", a.prompt},
                      {"prompt_tokens", prompt},
                      {"tokens", tokens},
                      {"text", text}};
    // A text may end inside a character.
    write_file_atomically(a.json, out.dump(2, ' ', false, Json::error_handler_t::replace) + "\n");
  }
}

}  // namespace

void add_sample_command(CLI::App& app) {
  auto* command = app.add_subcommand("sample", "Let a model write: a run's or a pretrained one");
  auto a = std::make_shared<SampleArguments>();
  command->add_option("run,--model", a->model, kModelPathHelp)->required();
  command->add_option("--tokenizer", a->tokenizer,
                      "a tokenizer's file or directory, where none lies with the model");
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
  command->add_flag("--past-end", a->past_end, "go on after the end-of-text token");
  command->add_option("--json", a->json, "also write prompt, text and token ids to this file");
  command->callback([a] { run(*a); });
}

}  // namespace reverie
