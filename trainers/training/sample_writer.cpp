#include "trainers/training/sample_writer.h"

#include "core/error.h"
#include "core/log.h"
#include "core/random.h"
#include "core/signals.h"
#include "trainers/evaluation/written_text.h"
#include "trainers/generation/generate.h"
#include "trainers/runs/stored_run.h"

namespace reverie {

SampleWriter::SampleWriter(const ExperimentOptions& options, LanguageModel& model,
                           const Dataset& data, Communicator& communicator)
    : options_(options), model_(model), data_(data), communicator_(communicator) {
  if (options.sample.tokens == 0 || !data.tokenizer || data.examples) return;
  try {
    prompt_ = prompt_tokens(*data.tokenizer, options.sample.prompt, model.vocabulary_size());
  } catch (const UserError& e) {
    if (communicator.first())
      log_warning("no text samples will be written, because sample.prompt cannot be used: {}",
                  e.what());
  }
}

std::string SampleWriter::write(int64_t step) const {
  if (prompt_.empty()) return "";
  GenerateOptions g;
  g.max_tokens = options_.sample.tokens;
  g.temperature = options_.sample.temperature;
  g.top_k = options_.sample.top_k;
  g.seed = derive_seed(uint64_t(options_.seed), kSamples);
  try {
    g.ends = ends_of_text(model_, data_.tokenizer.get());
    g.vocabulary = data_.tokenizer->vocabulary_size();
    const bool alone = communicator_.size() == 1;  // others would not hear of the signal
    return data_.tokenizer->decode(generate(model_, prompt_, g, [&](int32_t) {
      if (alone) stop_if_requested();
    }));
  } catch (const Error& e) {
    log_warning("no sample was written at step {}: {}", step, e.what());
    return "";
  }
}

}  // namespace reverie
