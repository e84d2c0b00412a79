#pragma once
/// Examples to reason on: question, steps, answer; and how they lie in a token file.

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "core/config.h"
#include "datasets/tokenizers/tokenizer.h"

namespace reverie {

struct Example {
  std::string question, answer;
  std::vector<std::string> steps;
};

struct ExampleOptions final : Fieldset {
  std::string form = "none";
  int64_t stage = 0, thoughts = 1;
  int64_t thought_steps = 0;  ///< see ThoughtRule (example_stages.h)
  double mixed_stages = 0;    ///< StageMix::share
  int64_t read = 0, tokens = 24;
  bool given() const { return form != "none"; }
  /// Whether they are made of what a text told, instead of being read from a file of examples.
  bool told() const { return form == "recount" || form == "facts" || form == "steps"; }
  void fields(Fields&) override;
};

/// The examples of a file's text, one or more.
///   prosqa: a JSON list of {"question", "steps": [...], "answer"}, other keys are passed over
///   gsm8k:  a JSON object a line, {"question", "answer"}: a step a line, and at last "#### " and
///           the answer. Of a step with calculator annotations only these are kept ("48/2=24"), as
///           in the data of Deng et al. 2023 and Coconut. Lines of white space are passed over; a
///           line may end in "\r\n".
/// DataError with the number of the example, from 1, that is not so.
std::vector<Example> read_examples(std::string_view form, std::string_view text);
/// The same of gsm8k, with each line of a solution as it is written for a step.
std::vector<Example> read_gsm8k(std::string_view text);

/// All that examples say, a part after another, each after a space: what a tokenizer must know.
std::string text_of_examples(std::span<const Example> examples);

/// An example in a token file is a record of `length` tokens:
///   question think thought* end_think step* answer ANSWER end end ..
/// with marks that are special tokens of the vocabulary (datasets/example_marks.h), or else ids
/// behind it. In the first case a begin-of-text token stands in front where the model was trained
/// with one. At stage s (Coconut, Hao et al. 2024) the first s steps are gone, and c thoughts stand
/// for each of them (example_stages.h).
struct ExampleLayout {
  int64_t length = 0;
  int32_t first_mark = 0;

  static constexpr int32_t kMarks = 5;
  int32_t think() const { return first_mark; }
  int32_t end_think() const { return first_mark + 1; }
  int32_t answer() const { return first_mark + 2; }
  int32_t end() const { return first_mark + 3; }
  int32_t thought() const { return first_mark + 4; }  ///< the last of them
};

/// A record, not filled up: the question's tokens, no thoughts, the steps' and the answer's.
std::vector<int32_t> record_of(const ExampleLayout& layout, std::span<const int32_t> question,
                               std::span<const int32_t> steps, std::span<const int32_t> answer);

/// The examples one after another as records, all as long as the longest of them, or, where stages
/// are mixed, of any of their stages; `layout` is set.
std::vector<std::vector<int32_t>> example_records(std::span<const Example> examples,
                                                  const ExampleOptions& options,
                                                  const Tokenizer& tokenizer,
                                                  ExampleLayout& layout);

/// tokens: a record without its last, targets: without its first. Targets that are not to be learnt
/// (question, thoughts and what follows the end) become -1. How many are left.
int64_t keep_example_targets(const ExampleLayout& layout, std::span<const int32_t> tokens,
                             std::span<int32_t> targets);

/// The answer's tokens in a record, or in a model's text behind its end_think: from behind the
/// last answer mark to the end. Empty where there is none.
std::span<const int32_t> answer_of(const ExampleLayout& layout, std::span<const int32_t> tokens);
/// The part of a record that a model is given: up to its end_think.
std::span<const int32_t> prompt_of(const ExampleLayout& layout, std::span<const int32_t> record);

}  // namespace reverie
