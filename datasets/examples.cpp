#include "datasets/examples.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "datasets/example_marks.h"
#include "datasets/example_stages.h"

namespace reverie {
namespace {

// "Half of 48 is 48/2 = <<48/2=24>>24 clips." -> "48/2=24"; a line without annotations stays.
std::string calculation_of(std::string_view line) {
  std::string kept;
  for (size_t at = line.find("<<"); at != line.npos; at = line.find("<<", at)) {
    const size_t end = line.find(">>", at);
    if (end == line.npos) break;
    if (!kept.empty()) kept += ' ';
    kept += line.substr(at + 2, end - at - 2);
    at = end;
  }
  return kept.empty() ? std::string(line) : kept;
}

std::string without_line_end(std::string line) {
  if (line.ends_with('\r')) line.pop_back();
  return line;
}

Example of_prosqa(const Json& json) {
  return {json.at("question").get<std::string>(), json.at("answer").get<std::string>(),
          json.at("steps").get<std::vector<std::string>>()};
}

Example of_gsm8k(const Json& json) {
  constexpr std::string_view kAnswer = "#### ";
  Example example;
  example.question = json.at("question").get<std::string>();
  const auto text = json.at("answer").get<std::string>();
  for (size_t at = 0; at < text.size();) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const std::string line = without_line_end(text.substr(at, end - at));
    at = end + 1;
    if (line.starts_with(kAnswer))
      example.answer = line.substr(kAnswer.size());
    else if (!line.empty())
      example.steps.push_back(line);
  }
  return example;
}

// The steps of gsm8k are whole lines.
std::vector<Example> read_examples_as_written(std::string_view form, std::string_view text) {
  std::vector<Example> examples;
  const auto add = [&](const Json& json) {
    examples.push_back(form == "prosqa" ? of_prosqa(json) : of_gsm8k(json));
    if (examples.back().question.empty() || examples.back().answer.empty())
      throw DataError(fmt::format("example {} has no question or no answer", examples.size()));
  };
  try {
    if (form == "prosqa") {
      for (const Json& json : parse_json(text)) add(json);
    } else {
      require(form == "gsm8k", "examples have the unknown form '{}'; wanted 'prosqa' or 'gsm8k'",
              form);
      for (size_t at = 0; at < text.size();) {
        const size_t end = std::min(text.find('\n', at), text.size());
        const std::string_view line = text.substr(at, end - at);
        if (line.find_first_not_of(" \t\r") != line.npos) add(parse_json(line));
        at = end + 1;
      }
    }
  } catch (const Json::exception& error) {
    throw DataError(fmt::format("example {} is not of the form {}: {}", examples.size() + 1, form,
                                error.what()));
  }
  if (examples.empty()) throw DataError("there is no example in the text");
  return examples;
}

std::string part(const std::string& text) {
  return fmt::format(" {}", text);
}

}  // namespace

void ExampleOptions::fields(Fields& f) {
  f.text("form", form, {"none", "prosqa", "gsm8k", "recount", "facts", "steps"},
         "format of a text of questions, steps and answers: prosqa is ProsQA's JSON list, gsm8k "
         "is GSM8K's JSON lines. Others are made of what any text or generated task told, for a "
         "decoder of memories (model.type explained): recount, its last tokens; facts, the last "
         "facts of a generated story; steps, the facts that decide an answer, and the answer");
  f.integer("stage", stage, kNonNegative,
            "number of reasoning steps that are removed, from the first on (Coconut's stage)");
  f.integer("thoughts", thoughts, {0, 4096},
            "continuous thoughts in place of each removed step (Coconut's c)");
  f.integer("thought_steps", thought_steps, {0, 4096},
            "thoughts stand for so many steps at most, and for as many in every example, also one "
            "with fewer steps; a stage beyond leaves no written step (Coconut's max_latent_stage "
            "with pad_latent_to_max); 0: for the removed steps of the example itself");
  f.number(
      "mixed_stages", mixed_stages, {0, 1},
      "share of the training rows that are written at a stage drawn anew each time, from 0 to "
      "the example's number of steps (Coconut's uniform_prob); the held-out part is at `stage` "
      "alone");
  f.integer("read", read, kNonNegative,
            "recount and facts: tokens of each text, or of each document of a task, that are read "
            "before something is written of them; 0: 64, or a whole document");
  f.integer("tokens", tokens, {1, 1 << 20},
            "recount: tokens that are written; facts and steps: at most so many");
  f.rule(!told() || (thought_steps == 0 && mixed_stages == 0),
         fmt::format("form {} has no stages, so thought_steps and mixed_stages do not apply: leave "
                     "them out",
                     form));
}

std::vector<Example> read_gsm8k(std::string_view text) {
  return read_examples_as_written("gsm8k", text);
}

std::vector<Example> read_examples(std::string_view form, std::string_view text) {
  std::vector<Example> examples = read_examples_as_written(form, text);
  if (form == "gsm8k")
    for (Example& example : examples)
      for (std::string& step : example.steps) step = calculation_of(step);
  return examples;
}

std::string text_of_examples(std::span<const Example> examples) {
  std::string text;
  for (const Example& e : examples) {
    text += part(e.question);
    for (const std::string& step : e.steps) text += part(step);
    text += part(e.answer);
  }
  return text;
}

std::vector<int32_t> record_of(const ExampleLayout& layout, std::span<const int32_t> question,
                               std::span<const int32_t> steps, std::span<const int32_t> answer) {
  std::vector<int32_t> record(question.begin(), question.end());
  record.push_back(layout.think());
  record.push_back(layout.end_think());
  record.insert(record.end(), steps.begin(), steps.end());
  record.push_back(layout.answer());
  record.insert(record.end(), answer.begin(), answer.end());
  record.push_back(layout.end());
  return record;
}

std::vector<std::vector<int32_t>> example_records(std::span<const Example> examples,
                                                  const ExampleOptions& options,
                                                  const Tokenizer& tokenizer,
                                                  ExampleLayout& layout) {
  layout.first_mark = first_mark_in(tokenizer).value_or(tokenizer.vocabulary_size());
  const ThoughtRule rule = thought_rule(options);
  std::vector<std::vector<int32_t>> records;
  int64_t longest = 0;
  for (const Example& e : examples) {
    const auto stageless = stageless_record(e, tokenizer, layout);
    records.push_back(record_at_stage(layout, stageless, options.stage, rule));
    if (mixes_stages(options))
      longest = std::max(longest, longest_of_stages(layout, stageless, rule));
  }
  layout.length = fill_records(records, layout, longest);
  return records;
}

int64_t keep_example_targets(const ExampleLayout& layout, std::span<const int32_t> tokens,
                             std::span<int32_t> targets) {
  const auto begin = std::find(tokens.begin(), tokens.end(), layout.end_think()) - tokens.begin(),
             end = std::find(targets.begin(), targets.end(), layout.end()) - targets.begin();
  for (int64_t i = 0; i < int64_t(targets.size()); ++i)
    if (i < begin || i > end) targets[size_t(i)] = -1;
  return std::max<int64_t>(0, std::min<int64_t>(end + 1, int64_t(targets.size())) - begin);
}

std::span<const int32_t> answer_of(const ExampleLayout& layout, std::span<const int32_t> tokens) {
  const auto end = std::find(tokens.begin(), tokens.end(), layout.end());
  auto begin = end;
  while (begin != tokens.begin() && *(begin - 1) != layout.answer()) --begin;
  return begin == tokens.begin() ? std::span<const int32_t>() : std::span(begin, end);
}

std::span<const int32_t> prompt_of(const ExampleLayout& layout, std::span<const int32_t> record) {
  const auto end = std::find(record.begin(), record.end(), layout.end_think());
  require(end != record.end(), "a record of {} tokens has no end of thoughts", record.size());
  return std::span(record.begin(), end + 1);
}

}  // namespace reverie
