#include "trainers/generation/explanation.h"

#include <algorithm>
#include <iterator>

#include "core/error.h"
#include "core/json.h"
#include "trainers/runs/explained_model.h"
#include "trainers/runs/run_reference.h"
#include "trainers/runs/stored_run.h"

namespace reverie {
namespace {

ReadLengths lengths_in_training(const std::string& run) {
  const auto found = find_run(run);
  if (!found) return {};
  return read_lengths(read_run_config(found->directory).data);
}

}  // namespace

std::string Explanation::unlike_training() const {
  if (trained.most == 0 || (length >= trained.least && length <= trained.most)) return "";
  return fmt::format("the decoder was trained on texts of {} tokens",
                     trained.least == trained.most
                         ? fmt::format("{}", trained.most)
                         : fmt::format("{} to {}", trained.least, trained.most));
}

std::string Explanation::text() const {
  const std::string unlike = unlike_training();
  return fmt::format("==== explained by {} ({} after {} tokens{})\n{}{}{}\n", decoder, reads,
                     length, unlike.empty() ? "" : "; UNLIKE ITS TRAINING: " + unlike, steps,
                     steps.empty() ? "" : "\n=>", answer);
}

Json Explanation::json() const {
  Json out = {{"decoder", decoder}, {"tokens", tokens}, {"steps", steps}, {"answer", answer}};
  if (verdict.asked() || verdict.leaks()) out["verdict"] = verdict.json();
  out["length"] = length;
  if (trained.most > 0) out["trained_lengths"] = {trained.least, trained.most};
  if (const std::string unlike = unlike_training(); !unlike.empty()) out["label"] = unlike;
  return out;
}

Explanation explain(const UsableModel& model, const std::vector<int32_t>& prompt,
                    const std::string& decoder, const std::string& tokenizer) {
  const UsableModel run = open_model(decoder, {tokenizer, model.tokenizer});
  auto* explained = dynamic_cast<ExplainedModel*>(run.model.get());
  require(explained != nullptr,
          "{} holds no decoder: wanted a run whose model is \"explained\" (--explain)", decoder);
  const std::string hash = model.model->weights_hash();
  require(
      hash == explained->base_hash(),
      "the decoder of {} reads the memory of {}, whose weights have the hash {}, and those of {} "
      "have {}: give its own base as the run",
      decoder, explained->options().base, explained->base_hash(), model.description, hash);
  Explanation out;
  out.decoder = run.description;
  out.reads = explained->reads_in_words();
  out.length = static_cast<int64_t>(prompt.size());
  out.trained = lengths_in_training(decoder);
  out.verdict = run.verdict;
  const Variable memory = explained->memory_of(Tensor::from<int32_t>({1, out.length}, prompt));
  out.tokens = explained->write(memory, explained->block_size())[0];
  const ExampleLayout marks = explained->marks();
  const auto answer = std::find(out.tokens.begin(), out.tokens.end(), marks.answer());
  const auto text_between = [&](auto begin, auto end) {
    std::vector<int32_t> words;
    std::copy_if(begin, end, std::back_inserter(words),
                 [&](int32_t token) { return token < marks.first_mark; });
    return model.text().decode(words);
  };
  out.steps = text_between(out.tokens.begin(), answer);
  out.answer = text_between(answer, out.tokens.end());
  return out;
}

}  // namespace reverie
