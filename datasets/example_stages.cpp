#include "datasets/example_stages.h"

#include <algorithm>

#include "core/error.h"

namespace reverie {
namespace {

// The parts of a record that has no stages, as views into it.
struct RecordPieces {
  std::span<const int32_t> question, answer;
  std::vector<std::span<const int32_t>> steps;
};

RecordPieces record_pieces(const ExampleLayout& layout, std::span<const int32_t> stageless) {
  RecordPieces pieces;
  const auto mark = std::find(stageless.begin(), stageless.end(), layout.answer());
  require(mark != stageless.end(), "a record of {} tokens has no mark of an answer",
          stageless.size());
  pieces.answer = {mark + 1, std::find(mark, stageless.end(), layout.end())};
  auto at = std::find(stageless.begin(), mark, layout.think());
  pieces.question = {stageless.begin(), at};
  while (at != mark) {
    const auto next = std::find(at + 1, mark, layout.think());
    pieces.steps.emplace_back(at + 1, next);
    at = next;
  }
  return pieces;
}

}  // namespace

ThoughtRule thought_rule(const ExampleOptions& options) {
  return {options.thoughts, options.thought_steps};
}

bool mixes_stages(const ExampleOptions& options) {
  return options.mixed_stages > 0;
}

std::vector<int32_t> stageless_record(const Example& example, const Tokenizer& tokenizer,
                                      const ExampleLayout& layout) {
  std::vector<int32_t> record;
  const auto add = [&](const std::string& text) {
    const auto tokens = tokenizer.encode(" " + text, SpecialTokens::as_text);
    record.insert(record.end(), tokens.begin(), tokens.end());
  };
  // As a published model saw its texts.
  if (layout.first_mark < tokenizer.vocabulary_size() && tokenizer.adds_begin_of_text())
    record.push_back(tokenizer.begin_of_text().value());
  add(example.question);
  for (const std::string& step : example.steps) {
    record.push_back(layout.think());
    add(step);
  }
  record.push_back(layout.answer());
  add(example.answer);
  record.push_back(layout.end());
  return record;
}

int64_t steps_of_record(const ExampleLayout& layout, std::span<const int32_t> stageless) {
  return std::count(stageless.begin(), stageless.end(), layout.think());
}

std::vector<int32_t> record_at_stage(const ExampleLayout& layout,
                                     std::span<const int32_t> stageless, int64_t stage,
                                     const ThoughtRule& rule) {
  const RecordPieces pieces = record_pieces(layout, stageless);
  const auto steps = int64_t(pieces.steps.size());
  const bool beyond = rule.thought_steps > 0 && stage > rule.thought_steps;
  const int64_t gone = beyond ? steps : std::min(stage, steps),
                thought = rule.thought_steps > 0 ? std::min(stage, rule.thought_steps) : gone;
  std::vector<int32_t> record(pieces.question.begin(), pieces.question.end());
  record.push_back(layout.think());
  record.insert(record.end(), size_t(thought * rule.thoughts), layout.thought());
  record.push_back(layout.end_think());
  for (int64_t i = gone; i < steps; ++i)
    record.insert(record.end(), pieces.steps[size_t(i)].begin(), pieces.steps[size_t(i)].end());
  record.push_back(layout.answer());
  record.insert(record.end(), pieces.answer.begin(), pieces.answer.end());
  record.push_back(layout.end());
  return record;
}

int64_t longest_of_stages(const ExampleLayout& layout, std::span<const int32_t> stageless,
                          const ThoughtRule& rule) {
  size_t longest = 0;
  for (int64_t stage = 0; stage <= steps_of_record(layout, stageless); ++stage)
    longest = std::max(longest, record_at_stage(layout, stageless, stage, rule).size());
  return int64_t(longest);
}

int64_t fill_records(std::vector<std::vector<int32_t>>& records, const ExampleLayout& layout,
                     int64_t length) {
  for (const auto& record : records) length = std::max(length, int64_t(record.size()));
  for (auto& record : records) record.resize(size_t(length), layout.end());
  return length;
}

}  // namespace reverie
