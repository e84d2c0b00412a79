#include "trainers/benchmarks/problem_answers.h"

#include <algorithm>
#include <chrono>
#include <numeric>

#include "datasets/sampler.h"
#include "trainers/benchmarks/greedy_texts.h"
#include "trainers/evaluation/evaluate.h"

namespace reverie {
namespace {

constexpr int64_t kAudited = 3;  // batches that an audit asks of one evaluation, at most

double seconds_since(std::chrono::steady_clock::time_point began) {
  return std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
}

struct Questions {
  std::vector<Reading> prompts;
  std::vector<std::vector<int32_t>> wanted;  ///< the answers
};

Questions read_questions(const TokenFile& tokens, const ExampleLayout& layout, int64_t items) {
  const EvaluationWindows windows = EvaluationWindows::of_examples(tokens, layout, 1, items);
  Questions out;
  std::vector<int32_t> record(static_cast<size_t>(layout.length));
  for (int64_t i = 0; i < windows.window_count(); ++i) {
    tokens.copy(windows.window_start(i), record);
    const auto prompt = prompt_of(layout, record), answer = answer_of(layout, record);
    out.prompts.push_back({{prompt.begin(), prompt.end()}, {}, "", false});
    out.wanted.emplace_back(answer.begin(), answer.end());
  }
  return out;
}

}  // namespace

double ProblemAnswers::accuracy() const {
  return std::accumulate(right.begin(), right.end(), 0.0) / double(right.size());
}

double ProblemAnswers::mean_written() const {
  return double(std::accumulate(written.begin(), written.end(), int64_t(0))) /
         double(written.size());
}

ProblemAnswers answer_problems(LanguageModel& model, const TokenFile& tokens,
                               const ExampleLayout& layout, const ProblemAnswerOptions& options) {
  const EvaluationMode mode(model);
  const Questions questions = read_questions(tokens, layout, options.items);
  ForwardAudit audit(options.step, options.step);
  TextReader reader(model, {options.latents, options.batch_tokens, &audit, options.shuffled});
  const ReadingPlan plan = plan_readings(questions.prompts, options.batch_tokens, false);
  ProblemAnswers out;
  out.right.resize(questions.prompts.size());
  out.written.resize(questions.prompts.size());
  double seconds = 0;
  int64_t timed = 0;
  const auto batches = int64_t(plan.batches.size());
  for (int64_t i = 0; i < batches; ++i) {
    const ReadingBatch& batch = plan.batches[size_t(i)];
    // No example is longer than the longest.
    const TokenWritingOptions writing{
        layout.length - int64_t(questions.prompts[batch.readings[0]].context.size()),
        int64_t(layout.thought()) + 1,
        {layout.end()}};
    const bool audited = audit.audits(i, batches);
    const auto began = std::chrono::steady_clock::now();
    const auto texts = write_tokens(reader, questions.prompts, plan, batch, writing, audited);
    // An audit's copy takes time that no user of the model spends. Where every batch is audited, one
    // is written once more for the time alone.
    if (!audited) {
      seconds += seconds_since(began);
      timed += int64_t(texts.size());
    } else if (batches <= kAudited) {
      const auto again = std::chrono::steady_clock::now();
      write_tokens(reader, questions.prompts, plan, batch, writing, false);
      seconds += seconds_since(again);
      timed += int64_t(texts.size());
    }
    for (size_t b = 0; b < texts.size(); ++b) {
      const size_t item = batch.readings[b];
      const auto answer = answer_of(layout, texts[b]);
      const auto& wanted = questions.wanted[item];
      out.right[item] = std::equal(answer.begin(), answer.end(), wanted.begin(), wanted.end());
      out.written[item] = int64_t(texts[b].size());
    }
  }
  out.milliseconds = 1000 * seconds / double(timed);
  out.verdict = audit.verdict();
  return out;
}

}  // namespace reverie
