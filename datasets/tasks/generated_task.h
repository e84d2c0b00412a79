#pragma once
/// Generated tasks: documents made from a seed, in which some tokens are answers that depend on what
/// stood a known number of windows before. Users register their own (docs/data.md).

#include <memory>
#include <span>
#include <string>
#include <vector>

#include "core/plugin.h"
#include "core/random.h"
#include "core/registry.h"

namespace reverie {

/// The options that every task has. A task's own derive from these and call fields() first.
struct TaskOptions : Fieldset {
  int64_t window = 64, windows = 4;            ///< tokens of a window, windows of a document
  std::vector<int64_t> distances = {0, 1, 2};  ///< from what decides an answer to it, in windows
  int64_t documents = 20000, validation_documents = 200, test_documents = 1000;
  int64_t seed = 1;
  std::string loss = "answers";
  void fields(Fields&) override;
};

/// A token of a document: the number of a word, and, where it is an answer, its distance in windows
/// from the furthest token that decides it.
struct TaskToken {
  int64_t word = 0;
  int64_t distance = -1;  ///< -1: no answer
};
using TaskWindow = std::vector<TaskToken>;
/// Numbers of words that belong together, such as a fact: "mary went to the kitchen ."
using TaskSentence = std::vector<int64_t>;

/// A document is `windows` windows of `window` tokens. Each begins with a mark (the first one of a
/// document with another), then comes what the task writes, and then padding.
class GeneratedTask {
 public:
  explicit GeneratedTask(const TaskOptions& options) : options_(options) {}
  virtual ~GeneratedTask() = default;
  const TaskOptions& options() const { return options_; }

  /// The vocabulary but the marks: letters and digits, or one other visible character each.
  virtual std::vector<std::string> words() const = 0;
  /// One document, in windows of at most `window` - 1 tokens: a function of the options and of what
  /// `random` gives.
  virtual std::vector<TaskWindow> document(Generator& random) const = 0;
  /// The share of answers at this distance that the best guesser has right who knows how the task is
  /// made, and of a document the window that asks, but not the tokens that decide the answer.
  virtual double chance(int64_t distance) const = 0;
  /// The facts among a document's first words (without marks and padding), in the order in which they
  /// were told. Default: the task tells none.
  virtual std::vector<TaskSentence> facts(std::span<const int64_t>) const { return {}; }
  /// The facts that decide the answer which follows `words`, in the order in which they were told.
  virtual std::vector<TaskSentence> steps(std::span<const int64_t> /*words*/) const { return {}; }

 private:
  TaskOptions options_;
};

using TaskRegistry = Registry<GeneratedTask>;
template <>
TaskRegistry& TaskRegistry::instance();

/// Marks in front of windows, and padding behind what a task writes.
inline constexpr const char *kDocumentMark = "#", *kWindowMark = "\n", *kPaddingWord = "_";

}  // namespace reverie

/// Registers TYPE, constructed as TYPE(const OPTIONS&), under NAME. OPTIONS derives from
/// TaskOptions.
#define REVERIE_REGISTER_TASK(NAME, TYPE, OPTIONS, DOC)    \
  [[maybe_unused]] static const bool reverie_task_##TYPE = \
      ::reverie::TaskRegistry::instance().add<TYPE, OPTIONS>(NAME, DOC)
