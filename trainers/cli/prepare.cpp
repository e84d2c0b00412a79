#include <fmt/format.h>

#include <cstdio>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>

#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "core/plugin.h"
#include "core/signals.h"
#include "datasets/tasks/generated_task.h"
#include "datasets/text_input.h"
#include "trainers/cli/arguments.h"
#include "trainers/cli/commands.h"
#include "trainers/monitoring/progress.h"

namespace reverie {
namespace {

struct GeneratedArguments {
  std::string type;
  std::vector<std::string> options, plugins;
};

// After all options of texts, which it excludes.
void add_generated_options(CLI::App& command, GeneratedArguments& a) {
  auto* type = command.add_option(
      "--generated", a.type,
      "make a task's documents instead of reading a text, e.g. recall (see reverie modules)");
  command.add_option("--set", a.options, "an option of the task, e.g. --set pairs=8 (repeatable)")
      ->allow_extra_args(false)
      ->needs(type);
  command
      .add_option("--plugin", a.plugins,
                  "load this shared library, of a task of your own, first (repeatable)")
      ->allow_extra_args(false)
      ->needs(type);
  for (const char* of_texts : {"text", "--field", "--tokenizer", "--tokenizer-files", "--train-bpe",
                               "--document-separator", "--document-token", "--validation-fraction"})
    type->excludes(command.get_option(of_texts));
}

Component component_of(const GeneratedArguments& a) {
  for (const std::string& plugin : a.plugins) load_plugin(plugin);
  if (a.type.empty()) return {};
  Config config(Json{{"type", a.type}}, "$.data.generated");
  for (const std::string& option : a.options) config.set(option);
  return resolve_component(TaskRegistry::instance(), config);
}

// Prints the size of a generated task and its answers by distance.
void describe_task(const Dataset& d, const std::string& directory) {
  const TaskLayout& task = *d.task;
  log_info("{}: documents of {} windows of {} tokens, test {} tokens", task.type, task.windows,
           task.window, d.test.count());
  for (size_t i = 0; i < task.distances.size(); ++i)
    log_info("answers decided {} windows before: {} in validation, chance {:.4g}",
             task.distances[i],
             d.provenance.at("validation")
                 .at("answers")
                 .value(std::to_string(task.distances[i]), int64_t(0)),
             task.chance[i]);
  log_info("the first documents, with token ids: {}/{}", directory, kReadableDocumentsFile);
}

void add_text_options(CLI::App& command, DataOptions& o) {
  command.add_option(
      "text", o.path,
      "a UTF-8 text; a directory or quoted pattern (\"books/*.txt\") of texts, each a document; "
      "a .jsonl file, each line a document; any of them as .gz or .zst. Without it, --name names "
      "a known text");
  command.add_option("--field", o.field, "for .jsonl files: the key that holds each line's text");
  command.add_option("--name", o.name,
                     "a known text, e.g. tinyshakespeare (see scripts/fetch.py --list)");
}

struct TokenizerOptions {
  CLI::Option *tokenizer, *train_bpe;
};
TokenizerOptions add_tokenizer_options(CLI::App& command, DataOptions& o) {
  TokenizerOptions added{};
  added.tokenizer =
      command
          .add_option("--tokenizer", o.tokenizer,
                      "char: one token for each character; word: one for each word; gpt2: "
                      "GPT-2's byte pairs; pretrained: a pretrained model's tokens; bpe: see "
                      "--train-bpe")
          ->check(CLI::IsMember({"char", "word", "gpt2", "bpe", "pretrained"}))
          ->capture_default_str();
  command.add_option(
      "--tokenizer-files", o.tokenizer_files,
      "for pretrained: a .gguf file, a Hugging Face directory or a tokenizer's own file");
  added.train_bpe =
      command
          .add_option("--train-bpe", o.train_bpe,
                      "learn byte pairs (like GPT-2's) from the training part of this text, "
                      "until the vocabulary has this many tokens; the held-out part is not read")
          ->check(CLI::Range(int64_t(257), int64_t(1) << 24));
  return added;
}

void add_output_options(CLI::App& command, DataOptions& o) {
  auto* out = command.add_option("--out", o.prepared_directory,
                                 "directory of the token files (default: data/<name>-<tokenizer>-"
                                 "<hash of text and options>)");
  command
      .add_flag("--replace", o.replace,
                "replace other prepared data in --out; without it, they are kept and the "
                "command is refused")
      ->needs(out);
}

void add_document_options(CLI::App& command, DataOptions& o) {
  command.add_option("--document-separator", o.document_separator,
                     "the text between documents; each document is encoded by itself and marked "
                     "as in its model's training. \\n: exactly one line break");
  command.add_option("--document-token", o.document_token,
                     "the token put after each document, as text (default: the tokenizer's own)");
  command
      .add_option("--validation-fraction", o.validation_fraction,
                  "share of the characters that is held out, at the end of the text")
      ->check(CLI::Range(0.0, 0.999))
      ->capture_default_str();
}

void settle_tokenizer(DataOptions& o, const TokenizerOptions& given) {
  if (given.train_bpe->count() > 0) {
    if (given.tokenizer->count() > 0 && o.tokenizer != "bpe")
      throw ConfigError(
          fmt::format("--train-bpe makes its own tokenizer: remove --tokenizer {}", o.tokenizer));
    o.tokenizer = "bpe";
  } else if (o.tokenizer == "bpe") {
    throw ConfigError("--tokenizer bpe needs the size of its vocabulary: add --train-bpe 4096");
  }
}

// Refuses options that would change nothing, and says what each needs.
void require_options_apply(const CLI::App& command, const DataOptions& o) {
  const auto given = [&](const char* option) { return command.get_option(option)->count() > 0; };
  if (is_token_directory(o.path)) {
    for (const CLI::Option* option : command.get_options())
      if (option->count() > 0 && option->get_name() != "text")
        throw ConfigError(
            fmt::format("{} holds token files already, which {} does not change: name the text "
                        "that they were made from, or leave {} out",
                        o.path, option->get_name(), option->get_name()));
    return;
  }
  if (given("--tokenizer-files") && o.tokenizer != "gpt2" && o.tokenizer != "pretrained")
    throw ConfigError(
        fmt::format("--tokenizer-files {}: the tokenizer {} is made from the text and reads no "
                    "files; wanted --tokenizer pretrained (or gpt2) beside it, or leave it out",
                    o.tokenizer_files, o.tokenizer));
  if (!given("--field") && !given("--document-token")) return;
  const TextFiles files = o.path.empty() ? TextFiles() : find_text_files(o.path, false);
  const std::string text = !o.path.empty()   ? o.path
                           : !o.name.empty() ? o.name
                                             : std::string("the text");
  if (given("--field") && !has_json_lines(files))
    throw ConfigError(
        fmt::format("--field {}: {} holds no lines of JSON, which have fields; wanted a .jsonl "
                    "file (also .gz, .zst), or leave --field out",
                    o.field, text));
  if (given("--document-token") && o.document_separator.empty() && !files.documents)
    throw ConfigError(fmt::format(
        "--document-token: {} is one document, behind which no token is put; wanted "
        "--document-separator beside it, a directory, a pattern or a .jsonl file, or leave it out",
        text));
}

// A shell has no easy way to write a line break.
void read_line_breaks(DataOptions& o) {
  for (std::string* text : {&o.document_separator, &o.document_token})
    for (size_t at; (at = text->find("\\n")) != std::string::npos;) text->replace(at, 2, "\n");
}

// Prepares with a line that tells how far it is. The directory of the token files.
std::string prepare_visibly(const DataOptions& o) {
  std::optional<Progress> progress;
  const SignalGuard signals;
  const auto encoded = [&](int64_t done, int64_t total) {
    stop_if_requested();
    if (!progress) {
      ProgressOptions options;
      options.context = "encoding";
      options.bytes = true;
      progress.emplace(total, options);
    }
    progress->reach(done);
  };
  try {
    return prepare_dataset(describe_dataset(o), encoded);
  } catch (const Interrupted& i) {
    progress.reset();
    log_info("stopped: nothing was prepared, and no files were left");
    exit_with(128 + i.signal);
  }
}

void describe_prepared(const std::string& directory, double validation_fraction) {
  DataOptions opened;
  opened.path = directory;
  const Dataset d = open_dataset(describe_dataset(opened));
  log_info("train {} tokens, validation {} tokens, vocabulary {}", d.train.count(),
           d.validation.count(), d.vocabulary_size());
  if (d.validation.count() == 0)
    log_warning(
        "nothing is held out: validation_fraction {:g} of {} tokens, rounded to whole documents "
        "(words, with words as tokens), leaves none for it. A run on these data cannot be "
        "evaluated; give a larger "
        "--validation-fraction, or more text",
        validation_fraction, d.train.count());
  if (!d.note().empty()) log_info("{}: {}", d.name(), d.note());
  if (d.task) describe_task(d, directory);
}

void run(const CLI::App& command, DataOptions& o, const GeneratedArguments& generated,
         const TokenizerOptions& given) {
  o.generated = component_of(generated);
  settle_tokenizer(o, given);
  require_options_apply(command, o);
  read_line_breaks(o);
  const std::string directory = prepare_visibly(o);
  describe_prepared(directory, o.validation_fraction);
  fmt::print("{}\n", directory);
  std::fflush(stdout);
  // The line that a config needs, after all else; it may lie anywhere, so the path is absolute.
  const std::string path = std::filesystem::absolute(directory).lexically_normal().string();
  fmt::print(stderr, "\"data\": {{\"path\": {}}}\n", json_text_replacing(Json(path)));
}

}  // namespace

void add_prepare_command(CLI::App& app) {
  auto* command = app.add_subcommand(
      "prepare",
      "Turn text, or a generated task, into token files (train.tok, validation.tok, tokenizer)");
  auto o = std::make_shared<DataOptions>();
  auto generated = std::make_shared<GeneratedArguments>();
  add_text_options(*command, *o);
  const TokenizerOptions given = add_tokenizer_options(*command, *o);
  add_output_options(*command, *o);
  add_document_options(*command, *o);
  add_generated_options(*command, *generated);
  command->callback([command, o, generated, given] { run(*command, *o, *generated, given); });
}

}  // namespace reverie
