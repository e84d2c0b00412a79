#pragma once
/// A generated task's documents as they lie in token files: in windows, with marks and padding.

#include <cstdint>
#include <string>
#include <vector>

#include "datasets/tasks/generated_task.h"
#include "datasets/tokenizers/tokenizer.h"

namespace reverie {

enum class TaskSplit : uint64_t { train, validation, test };

/// Tokens of documents, by the number of their words, and the labels of their answers.
struct TaskTokens {
  std::vector<int32_t> tokens, labels;
  void add(int64_t word, int64_t distance = -1) {
    tokens.push_back(int32_t(word));
    labels.push_back(int32_t(distance + 1));
  }
};

class TaskDocuments {
 public:
  /// Keeps a reference. UserError where the task has a word twice.
  explicit TaskDocuments(const GeneratedTask& task);
  /// The task's words, then the marks of documents and windows, and padding.
  const std::vector<std::string>& words() const { return words_; }
  int64_t document_mark() const { return document_mark_; }
  /// All words, as a tokenizer reads them.
  std::string text() const;
  /// The token of each word. UserError where the tokenizer makes several of one.
  std::vector<int32_t> ids(const Tokenizer& tokenizer) const;
  /// How many documents a split has.
  int64_t count(TaskSplit split) const;
  /// Appends document `number` of the split: the same one whenever it is asked for.
  void write(TaskSplit split, int64_t number, TaskTokens& out) const;

 private:
  const GeneratedTask& task_;
  std::vector<std::string> words_;
  int64_t document_mark_, window_mark_, padding_;
};

}  // namespace reverie
