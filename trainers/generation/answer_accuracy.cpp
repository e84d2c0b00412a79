#include "trainers/generation/answer_accuracy.h"

#include <algorithm>
#include <vector>

#include "datasets/sampler.h"
#include "trainers/generation/generate.h"

namespace reverie {

AnswerAccuracy answer_accuracy(LanguageModel& model, const TokenFile& tokens,
                               const ExampleLayout& layout, int64_t count,
                               const std::function<void(int64_t)>& progress) {
  const EvaluationWindows windows = EvaluationWindows::of_examples(tokens, layout, 1, count);
  AnswerAccuracy accuracy;
  std::vector<int32_t> record(static_cast<size_t>(layout.length));
  for (int64_t i = 0; i < windows.window_count(); ++i) {
    tokens.copy(windows.window_start(i), record);
    const auto prompt = prompt_of(layout, record), wanted = answer_of(layout, record);
    GenerateOptions options;
    options.temperature = 0;
    options.ends = {layout.end()};
    options.vocabulary = int64_t(layout.thought()) + 1;
    // No example is longer than the longest.
    options.max_tokens = layout.length - int64_t(prompt.size());
    const auto written = generate(model, {prompt.begin(), prompt.end()}, options);
    const auto answer = answer_of(layout, written);
    accuracy.right += std::equal(answer.begin(), answer.end(), wanted.begin(), wanted.end());
    accuracy.written += double(written.size());
    ++accuracy.examples;
    if (progress) progress(accuracy.examples);
  }
  accuracy.written /= double(std::max<int64_t>(1, accuracy.examples));
  return accuracy;
}

}  // namespace reverie
