#include <fmt/format.h>

#include <nlohmann/json.hpp>
#include <optional>

#include "core/log.h"
#include "trainers/cli/arguments.h"
#include "trainers/cli/commands.h"
#include "trainers/monitoring/progress.h"

namespace reverie {

void add_prepare_command(CLI::App& app) {
  auto* command = app.add_subcommand(
      "prepare", "Turn text into token files (train.tok, validation.tok, tokenizer)");
  auto o = std::make_shared<DataOptions>();
  command->add_option("text", o->path, "a UTF-8 text file; left out: --name");
  command->add_option("--name", o->name,
                      "a known text, e.g. tinyshakespeare (see scripts/fetch.py --list)");
  command->add_option("--tokenizer", o->tokenizer, "char, gpt2 or pretrained")
      ->check(CLI::IsMember({"char", "gpt2", "pretrained"}))
      ->capture_default_str();
  command->add_option(
      "--tokenizer-files", o->tokenizer_files,
      "pretrained: a .gguf file, a Hugging Face directory or a tokenizer's own file");
  command->add_option("--out", o->prepared_directory,
                      "where the files go (default: data/<name>-<tokenizer>)");
  command->add_option("--document-separator", o->document_separator,
                      "what stands between documents: each is encoded by itself and marked as in "
                      "its model's training. \\n: exactly one line break");
  command->add_option("--document-token", o->document_token,
                      "the token after each document, as text (default: the tokenizer's own)");
  command
      ->add_option("--validation-fraction", o->validation_fraction,
                   "share of the characters, at the end of the text")
      ->check(CLI::Range(0.0, 0.999))
      ->capture_default_str();
  command->callback([o] {
    // A shell has no easy way to say it.
    for (size_t at; (at = o->document_separator.find("\\n")) != std::string::npos;)
      o->document_separator.replace(at, 2, "\n");
    std::optional<Progress> progress;
    const std::string directory = prepare_dataset(*o, [&](int64_t done, int64_t total) {
      if (!progress) {
        ProgressOptions options;
        options.context = "encoding";
        options.bytes = true;
        progress.emplace(total, options);
      }
      progress->reach(done);
    });
    progress.reset();
    DataOptions opened = *o;
    opened.prepared_directory = directory;
    const Dataset d = open_dataset(opened);
    log_info("train {} tokens, validation {} tokens, vocabulary {}", d.train.count(),
             d.validation.count(), d.vocabulary_size());
    if (!d.note().empty()) log_warning("{}: {}", d.name(), d.note());
    fmt::print("{}\n", directory);
  });
}

}  // namespace reverie
