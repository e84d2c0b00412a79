#pragma once
/// Which facts of a document are asked where: for tasks that show facts in every window and ask for
/// them later.

#include <vector>

#include "core/random.h"
#include "datasets/tasks/generated_task.h"

namespace reverie {

struct TaskQuestion {
  int64_t distance;  ///< the fact was shown so many windows before
  int64_t fact;      ///< its number in that window
};

/// For each window of a document, the questions that it asks, in random order. Each fact draws one of
/// the options' distances that end inside the document, and is asked for there, once: a second time the
/// first answer would stand nearer than the fact. A window that is to ask for more than `questions`
/// facts leaves some out.
std::vector<std::vector<TaskQuestion>> draw_questions(const TaskOptions& options,
                                                      int64_t facts_per_window, int64_t questions,
                                                      Generator& random);

/// `count` different numbers below `below`, none of `taken`, in random order. InternalError where
/// there are not as many.
std::vector<int64_t> draw_apart(int64_t count, int64_t below, const std::vector<int64_t>& taken,
                                Generator& random);

int64_t furthest_distance(const TaskOptions& options);

}  // namespace reverie
