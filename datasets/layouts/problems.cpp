#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "datasets/example_marks.h"
#include "datasets/layouts/layout.h"
#include "datasets/problems/problem_generator.h"

namespace reverie {
namespace {

constexpr int kHashedProblems = 16;

class ProblemLayout final : public Layout {
 public:
  explicit ProblemLayout(const DataOptions& options)
      : options_(options.examples),
        component_(options.problems),
        learns_(options.tokenizer == "bpe") {}
  void add_to_creation(Json& creation) const override {
    creation["problems"] = *component_.resolved;
    add_stage_to_creation(options_, creation);
  }
  std::string directory_suffix() const override {
    return fmt::format("-stage{}x{}", options_.stage, options_.thoughts);
  }
  int32_t marks(const Tokenizer& tokenizer) const override { return marks_behind(tokenizer); }
  bool reads_text() const override { return false; }
  std::vector<std::string> own_files() const override { return stage_files(options_); }
  std::unique_ptr<CutText> cut(const TextInput&, size_t) const override {
    const auto generator = ProblemRegistry::instance().make(component_);
    if (const ProblemList* list = generator->list()) log_info("{}: {}", list->file, list->note);
    GeneratedProblems all = generate_problems(*generator);
    // Stages leave steps out, but must share one vocabulary.
    std::string training_text = learns_ ? text_of_examples(all.train) : "";
    const size_t training = all.train.size();
    std::move(all.held_out.begin(), all.held_out.end(), std::back_inserter(all.train));
    return cut_examples(std::move(all.train), training, options_, " " + generator->vocabulary(),
                        std::move(training_text));
  }

 private:
  ExampleOptions options_;
  Component component_;
  bool learns_;  // byte pairs, from the training part
};

}  // namespace

// A generator whose code has changed makes other problems, so some of them are hashed beside the
// options; of a file, all are, and not where it lies.
SourceText source_of_problems(const Component& component) {
  const auto generator = ProblemRegistry::instance().make(component);
  const ProblemList* list = generator->list();
  Json options = *component.resolved;
  if (list)
    for (const char* key : {"path", "held_out_path"}) options.erase(key);
  std::string all = json_text_replacing(options) + "\n";
  std::vector<Example> examples;
  if (list) {
    all += fmt::format("{} {}\n", list->problems.size(), list->held_out.size());
    for (const auto* part : {&list->problems, &list->held_out})
      for (const Problem& problem : *part) examples.push_back(problem.example);
  } else {
    all += generator->vocabulary() + "\n";
    Generator random(uint64_t(generator->options().seed));
    for (int i = 0; i < kHashedProblems; ++i)
      examples.push_back(generator->problem(random).example);
  }
  all += text_of_examples(examples);
  return {component.type, list ? list->file : "generated problems: " + component.type,
          hash_bytes(all.data(), all.size()), list ? list->note : ""};
}

std::shared_ptr<const Layout> problem_layout(const DataOptions& options) {
  return std::make_shared<ProblemLayout>(options);
}

}  // namespace reverie
