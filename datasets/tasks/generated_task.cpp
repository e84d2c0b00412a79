#include "datasets/tasks/generated_task.h"

#include <fmt/format.h>

#include <algorithm>

namespace reverie {

template <>
TaskRegistry& TaskRegistry::instance() {
  static TaskRegistry registry("generated task");
  return registry;
}

void TaskOptions::fields(Fields& f) {
  f.integer("window", window, {4, int64_t(1) << 20},
            "tokens of a window: the block_size of a model that carries its state from window to "
            "window");
  f.integer("windows", windows, {1, int64_t(1) << 20}, "windows of a document");
  f.integers("distances", distances, {0, int64_t(1) << 20},
             "windows between what decides an answer and the answer; every fact that is asked for "
             "draws one of them");
  f.integer("documents", documents, kPositive, "documents to train on");
  f.integer("validation_documents", validation_documents, kPositive, "documents of validation");
  f.integer("test_documents", test_documents, kPositive, "documents of the test split");
  f.integer("seed", seed, {0, int64_t(1) << 53},
            "seed of the documents; train, validation and test derive their own from it");
  f.text("loss", loss, {"answers", "all"},
         "answers: the loss counts the answers alone; all: every token");
  const auto furthest = std::max_element(distances.begin(), distances.end());
  f.rule(furthest != distances.end(), "distances is empty: give at least one, such as [1]");
  if (furthest != distances.end())
    f.rule(*furthest < windows,
           fmt::format("distance {} needs a document of {} windows or more, and windows is {}: "
                       "raise windows or leave the distance out",
                       *furthest, *furthest + 1, windows));
}

}  // namespace reverie
