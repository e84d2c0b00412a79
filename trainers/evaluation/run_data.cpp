#include "trainers/evaluation/run_data.h"

#include <filesystem>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "datasets/text_input.h"
#include "trainers/runs/run_reference.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

// The texts of the data that are prepared: one, or those of a mix.
std::vector<DataOptions*> texts_to_prepare(DataOptions& options) {
  std::vector<DataOptions*> texts;
  if (options.mix.empty()) texts.push_back(&options);
  for (MixEntry& entry : options.mix) texts.push_back(&entry);
  std::erase_if(texts, [](const DataOptions* text) { return is_token_directory(text->path); });
  return texts;
}

// Token files stay readable while they are open, although their folder is gone.
Dataset open_apart(DataOptions options) {
  const TemporaryFolder folder(std::filesystem::temp_directory_path() / "reverie", "data");
  int text_count = 0;
  for (DataOptions* text : texts_to_prepare(options))
    text->prepared_directory = fmt::format("{}/{}", folder.path(), text_count++);
  return prepare_and_open(options);
}

}  // namespace

RunData open_run_data(const std::string& given, const LoadedRun& run, bool other_data) {
  const DataOptions& options = run.options.data;
  const auto is_of_run = [&](const Dataset& data) {
    return data.hash == run.data_hash &&
           (!run.tokenizer || !data.tokenizer || run.tokenizer->hash() == data.tokenizer->hash());
  };
  RunData out;
  const bool replaced = find_prepared_data(describe_dataset(options)) == PreparedData::other;
  out.data = replaced ? open_apart(options) : prepare_and_open(options);
  if (is_of_run(out.data)) return out;
  const std::string what = fmt::format(
      "{} was trained on other tokens than those of {} now (data hash {}, now {})", given,
      options.path.empty() ? out.data.name() : options.path, run.data_hash, out.data.hash);
  if (!other_data)
    throw ConfigError(fmt::format(
        "{}: the text, or the way it is tokenised, has changed since. Restore it, or add "
        "--other-data to score the text as it is now, with the run's own tokenizer and the label "
        "OTHER DATA",
        what));
  DataOptions own = options;
  const std::vector<DataOptions*> texts = texts_to_prepare(own);
  if (run.tokenizer && !texts.empty()) {
    const auto named = find_run(given);
    for (DataOptions* text : texts) {
      text->tokenizer = "pretrained";
      text->tokenizer_files = named ? named->directory : given;
    }
    out.data = open_apart(own);
  }
  out.data.require_vocabulary(run.model->vocabulary_size());
  out.other = true;
  out.note = what;
  return out;
}

}  // namespace reverie
