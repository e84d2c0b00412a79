#include "trainers/cli/export.h"

#include <fmt/format.h>
#include <unistd.h>

#include "core/error.h"
#include "core/log.h"
#include "trainers/exporting/gguf.h"
#include "trainers/exporting/hugging_face.h"
#include "trainers/runs/stored_run.h"
#include "trainers/runs/trained_state.h"
#include "trainers/text/terminal.h"
#include "trainers/training/trainer.h"

namespace reverie {
namespace {

// The tokenizer that goes with the model. A model without one is read wrongly, and nobody is told:
// UserError.
const Tokenizer& tokenizer_of(const LoadedRun& run, const std::string& directory) {
  require(run.tokenizer != nullptr,
          "{} was trained on token files without a tokenizer, and other programs would read its "
          "model with a wrong one: name the right one (--tokenizer)",
          directory);
  return *run.tokenizer;
}

void print_errors(const GgufWriter::Saved& saved, GgufTensorType type) {
  if (type == GgufTensorType::f32) return;
  fmt::print("{} of {} tensors are stored as f32\n", saved.in_full, saved.tensors);
  const char* bound = type == GgufTensorType::q8_0  ? "0.00443 of the largest of its block of 32"
                      : type == GgufTensorType::f16 ? "2^-11 of the weight, at least 2^-25"
                                                    : "2^-8 of the weight";
  fmt::print("{}\n",
             fit_terminal(STDOUT_FILENO,
                          fmt::format("largest error of a weight: {:.3g}, which is {:.3f} "
                                      "of its bound ({})",
                                      saved.errors.largest, saved.errors.largest_share, bound)));
}

}  // namespace

void add_export_options(CLI::App& command, ExportArguments& a) {
  command.add_option("--export-hf", a.hugging_face,
                     "write the model and its tokenizer for transformers (AutoModelForCausalLM, "
                     "AutoTokenizer) into this directory");
  auto* gguf = command.add_option(
      "--export-gguf", a.gguf, "write the model and its tokenizer into this file, for llama.cpp");
  command.add_option("--export-state", a.state,
                     "write the trained parameters alone, with a description, into this "
                     "directory (latents beside a frozen model; a model with its memory module)");
  command
      .add_option("--dtype", a.dtype,
                  "type of the matrices in a GGUF file: f32, f16, bf16 or q8_0 (norms, biases "
                  "and learned positions are f32)")
      ->check(CLI::IsMember({"f32", "f16", "bf16", "q8_0"}))
      ->capture_default_str()
      ->needs(gguf);
  command.add_option("--tokenizer", a.tokenizer,
                     "for an export: a tokenizer's file or directory, if the run has none");
  command
      .add_flag("--without-tokenizer", a.without_tokenizer,
                "write a GGUF file without a tokenizer, for a tokenizer that the format "
                "cannot express; the file says so")
      ->needs(gguf);
}

void ExportArguments::require_consistent() const {
  if (tokenizer.empty()) return;
  if (!any())
    throw ConfigError(
        fmt::format("--tokenizer {} goes into an export, and none is asked for: add --export-hf, "
                    "--export-gguf or --export-state, or leave it out",
                    tokenizer));
  if (without_tokenizer && hugging_face.empty() && state.empty())
    throw ConfigError(fmt::format(
        "--tokenizer {} and --without-tokenizer contradict each other: remove one of them",
        tokenizer));
}

void export_run(const std::string& directory, const ExportArguments& a) {
  LoadedRun run = load_run(directory);
  if (!a.tokenizer.empty()) run.tokenizer = load_tokenizer_for(a.tokenizer);
  if (!run.verdict.label().empty()) log_warning("the exported model: {}", run.verdict.line());
  if (!a.state.empty()) {
    export_trained_state(
        {*run.model, run.options.model, run.tokenizer.get(), run.verdict, run.options.plugins},
        a.state);
    fmt::print("{}\n", a.state);
  }
  if (!a.hugging_face.empty()) {
    export_hugging_face(*run.model, run.options.model, &tokenizer_of(run, directory),
                        a.hugging_face, &run.verdict);
    fmt::print("{}\n", a.hugging_face);
  }
  if (!a.gguf.empty()) {
    const GgufTensorType type = gguf_tensor_type(a.dtype);
    const Tokenizer* tokenizer = a.without_tokenizer ? nullptr : &tokenizer_of(run, directory);
    print_errors(export_gguf(*run.model, run.options.model, tokenizer, type, a.gguf, &run.verdict),
                 type);
    fmt::print("{}\n", a.gguf);
  }
}

}  // namespace reverie
