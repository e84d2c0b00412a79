#include "trainers/evaluation/model_source.h"

#include <filesystem>

#include "core/error.h"
#include "layers/pretrained/load.h"
#include "trainers/training/trainer.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

// llama2.c keeps the tokenizer in a file of its own.
std::string tokenizer_beside(const std::string& path) {
  if (fs::is_directory(path) || fs::path(path).extension() != ".bin") return path;
  const fs::path beside = fs::path(path).parent_path() / "tokenizer.bin";
  require(fs::exists(beside),
          "{} holds no tokenizer and no tokenizer.bin lies beside it: name one (--tokenizer)",
          path);
  return beside.string();
}

}  // namespace

std::optional<int32_t> UsableModel::begin_of_text() const {
  return tokenizer && tokenizer->adds_begin_of_text() ? tokenizer->begin_of_text() : std::nullopt;
}
const Tokenizer& UsableModel::text() const {
  require(tokenizer != nullptr,
          "{} was trained on token files without a tokenizer: there is no text to read or print",
          description);
  return *tokenizer;
}

UsableModel open_model(const std::string& path, const std::string& tokenizer) {
  UsableModel usable;
  if (fs::exists(fs::path(path) / "config.resolved.json")) {
    LoadedRun run = load_run(path);
    usable.model = std::move(run.model);
    usable.tokenizer = run.tokenizer;
    usable.description = run.checkpoint;
    usable.verdict = run.verdict;
  } else {
    LoadedModel loaded = load_pretrained(path);
    usable.model = std::move(loaded.model);
    usable.end_of_text = loaded.eos;
    usable.description = path;
    if (tokenizer.empty()) usable.tokenizer = load_tokenizer_for(tokenizer_beside(path));
  }
  if (!tokenizer.empty()) usable.tokenizer = load_tokenizer_for(tokenizer);
  if (usable.tokenizer) {
    if (!usable.end_of_text) usable.end_of_text = usable.tokenizer->end_of_text();
    require(usable.tokenizer->vocabulary_size() <= usable.model->vocabulary_size(),
            "the tokenizer has {} tokens, the model of {} knows {}: they do not belong together",
            usable.tokenizer->vocabulary_size(), path, usable.model->vocabulary_size());
  }
  usable.model->train(false);
  return usable;
}

}  // namespace reverie
