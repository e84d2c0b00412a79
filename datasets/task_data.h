#pragma once
/// A generated task in a data set: its windows, and which of its tokens are answers.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "datasets/examples.h"
#include "datasets/mix_layout.h"
#include "datasets/token_file.h"

namespace reverie {

struct TaskLayout {
  std::string type;                 ///< "recall"
  int64_t window = 0, windows = 0;  ///< tokens of a window, windows of a document
  std::vector<int64_t> distances;   ///< in windows, rising
  std::vector<double> chance;       ///< of each distance: GeneratedTask::chance()
  bool answers_only = true;         ///< what the loss counts

  int64_t document_length() const { return window * windows; }
  /// UserError unless a document is whole blocks, and a block whole windows.
  void require_block_size(int64_t block_size) const;
  /// How many blocks a document of `tokens` has, and how many documents there are.
  int64_t blocks_of(int64_t block_size) const { return document_length() / block_size; }
  int64_t documents_in(const TokenFile& tokens) const;
};

/// Labels lie in a token file of their own, as long as the tokens' file: 0, or 1 + the distance of an
/// answer.
inline constexpr const char *kTrainAnswersFile = "train_answers.tok",
                            *kValidationAnswersFile = "validation_answers.tok",
                            *kTestFile = "test.tok", *kTestAnswersFile = "test_answers.tok",
                            *kReadableDocumentsFile = "documents.txt";

/// The distance, in windows, of each token first .. first + out.size() - 1; -1 where it is no answer.
void read_distances(const TokenFile& answers, int64_t first, std::span<int32_t> out);

/// How a token file is divided, and which of its targets are learnt: all, what an example teaches, or
/// the answers of a task.
struct TargetRule {
  std::optional<ExampleLayout> examples;
  std::optional<TaskLayout> task;
  TokenFile answers;                    ///< labels, where there is a task
  std::optional<MixLayout> mix;         ///< where the tokens are those of several files
  std::optional<int32_t> window_begin;  ///< stands in place of a window's first token

  TargetRule() = default;
  TargetRule(std::optional<ExampleLayout> of_examples) : examples(of_examples) {}
  bool keeps_all() const { return !examples && !(task && task->answers_only); }
  /// tokens: first .. of the file, targets: the ones after them. Those that are not learnt become
  /// -1. How many are left.
  int64_t keep(int64_t first, std::span<const int32_t> tokens, std::span<int32_t> targets) const;
};

}  // namespace reverie
