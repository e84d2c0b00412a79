#include <fmt/format.h>

#include <algorithm>
#include <iterator>
#include <nlohmann/json.hpp>

#include "core/files.h"
#include "datasets/layouts/layout.h"
#include "datasets/problems/problem_generator.h"

namespace reverie {
namespace {

constexpr int kHashedProblems = 16;

class ProblemLayout final : public Layout {
 public:
  explicit ProblemLayout(const DataOptions& options)
      : options_(options.examples),
        resolved_(*options.problems.resolved),
        generator_(ProblemRegistry::instance().make(options.problems)) {}
  void add_to_creation(Json& creation) const override {
    creation["problems"] = resolved_;
    add_stage_to_creation(options_, creation);
  }
  std::string directory_suffix() const override {
    return fmt::format("-stage{}x{}", options_.stage, options_.thoughts);
  }
  int32_t marks() const override { return ExampleLayout::kMarks; }
  bool reads_text() const override { return false; }
  std::vector<std::string> own_files() const override { return stage_files(options_); }
  std::unique_ptr<CutText> cut(const TextInput&, size_t) const override {
    GeneratedProblems all = generate_problems(*generator_);
    const size_t training = all.train.size();
    std::move(all.held_out.begin(), all.held_out.end(), std::back_inserter(all.train));
    // Stages leave steps out, but must share one vocabulary.
    return cut_examples(std::move(all.train), training, options_, " " + generator_->vocabulary());
  }

 private:
  ExampleOptions options_;
  Json resolved_;
  std::shared_ptr<const ProblemGenerator> generator_;
};

}  // namespace

// A generator whose code has changed makes other problems, so some of them are hashed beside the
// options.
std::string hash_of_problems(const Component& component) {
  const auto generator = ProblemRegistry::instance().make(component);
  Generator random(uint64_t(generator->options().seed));
  std::string all = component.resolved->dump() + "\n" + generator->vocabulary() + "\n";
  std::vector<Example> examples;
  for (int i = 0; i < kHashedProblems; ++i) examples.push_back(generator->problem(random).example);
  all += text_of_examples(examples);
  return hash_bytes(all.data(), all.size());
}

std::shared_ptr<const Layout> problem_layout(const DataOptions& options) {
  return std::make_shared<ProblemLayout>(options);
}

}  // namespace reverie
