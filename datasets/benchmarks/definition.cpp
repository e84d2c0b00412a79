#include "datasets/benchmarks/definition.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>
#include <optional>

#include "core/error.h"
#include "datasets/benchmarks/template.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

// configs/tasks under the working directory, in a folder above the program, or as installed.
std::optional<fs::path> shipped_folder() {
  std::error_code ignored;
  std::vector<fs::path> places{fs::current_path(ignored)};
  const fs::path program = fs::read_symlink("/proc/self/exe", ignored);
  fs::path above = program.parent_path();
  for (int i = 0; i < 4 && !above.empty(); ++i, above = above.parent_path()) {
    places.push_back(above);
    places.push_back(above / "share" / "reverie");
  }
  for (const fs::path& place : places)
    if (fs::is_directory(place / "configs" / "tasks", ignored)) return place / "configs" / "tasks";
  return std::nullopt;
}

}  // namespace

void FewShotOptions::fields(Fields& f) {
  f.integer("count", count, {0, 1000}, "solved examples in front of each question");
  f.text("pool", pool, {},
         "file that the examples come from, looked for as \"data\" is; \"\": the items themselves, "
         "but for the one that is asked");
  f.text("pick", pick, {"first", "random"},
         "the first examples of the pool, or drawn anew for each item");
  f.integer("seed", seed, kNonNegative, "of the draws");
  f.text("match", match, {},
         "template that an example and the item must fill alike, such as {{subject}}");
  f.text("separator", separator, {}, "text behind each example");
  f.text("prompt", prompt, {},
         "template of an example's question, where the pool's objects have other fields than the "
         "items; \"\": the task's");
  f.text("target", target, {}, "the same of an example's answer");
  f.text("fetch", fetch, {}, "command that makes the pool's file, where it is not the task's");
  f.rule(prompt.empty() == target.empty(),
         "\"prompt\" and \"target\" of examples are given together, or neither is");
  f.rule(prompt.empty() || !pool.empty(),
         "\"prompt\" is for examples of another file: wanted \"pool\"");
}

void BenchmarkDefinition::fields(Fields& f) {
  f.required().text("name", name, {}, "the task's name in reports and logs");
  f.text("about", about, {}, "one line: what it asks, and whose it is");
  f.required().text(
      "mirrors", mirrors, {},
      "task and version of lm-eval whose requests and measures these are, or \"own\"");
  f.text("type", type, {"choice", "loglikelihood", "generate"},
         "choice: the likeliest continuation; loglikelihood: how likely one continuation is, and "
         "whether it is the greedy one; generate: the answer in a text that the model writes");
  f.required().text(
      "data", data, {},
      "the items: .jsonl (an object a line) or .json (a list). Looked for in $REVERIE_DATA, in "
      "~/.cache/reverie and beside this definition");
  f.text("split", split, {}, "which part of the published set the file holds");
  f.text("source", source, {}, "public address of the set, for whoever lacks the file");
  f.text("fetch", fetch, {}, "command that makes the file; FILE stands for where it belongs");
  f.text("description", description, {}, "template in front of everything");
  f.required().text("prompt", prompt, {},
                    "template of the question; with [*], one context for each choice, all with the "
                    "same continuation (partial-sentence scoring)");
  f.text("delimiter", delimiter, {}, "text between prompt and continuation (not of loglikelihood)");
  f.texts("choices", choices,
          "choice: templates of the continuations; one with [*] makes several, and with several "
          "contexts it is the one continuation");
  f.text("gold", gold, {}, "choice: template of the right choice, its number from 0 or its text");
  f.text("target", target, {},
         "template of what is right: the continuation (loglikelihood) or the answer (generate); "
         "also the answer of solved examples");
  f.text("group", group, {},
         "template: items with the same are a part of their own, such as a subject; the mean over "
         "parts (macro) is shown too");
  f.number("chance", chance, {0, 1},
           "accuracy of guessing; 0 for choice: 1 / choices, averaged over the items");
  f.object("few_shot", few_shot, "solved examples in front of each question");
  f.text("second_prompt", second_prompt, {},
         "generate: read after the text that was written; the answer is in what follows (zero-shot "
         "chain of thought in two passes)");
  f.texts("stop", stop, "generate: each ends the text when it comes, and is not part of it");
  f.integer("max_tokens", max_tokens, {1, 1 << 20}, "generate: longest text");
  f.integer("second_max_tokens", second_max_tokens, {1, 1 << 20},
            "generate: longest text after second_prompt");
  describe_named(f, "answers", answers,
                 "generate: ways to take the answer from a text, by name; the first is the task's",
                 [](Fields& g, const std::string& entry, AnswerOptions& options) {
                   g.object(entry, options, "how the answer is taken from a text");
                 });
  f.object("comparison", comparison, "generate: what does not count when answers are compared");
  f.rule((type == "choice") == !choices.empty() && (type == "choice") == !gold.empty(),
         "a task of type choice has \"choices\" and \"gold\", and no other has");
  f.rule(type == "choice" || !target.empty(), "a task of type " + type + " has a \"target\"");
  f.rule((type == "generate") == !answers.empty(),
         "a task of type generate has \"answers\", and no other has");
  f.rule(std::find(stop.begin(), stop.end(), "") == stop.end(),
         "\"stop\" has an empty text, at which every text would end before it begins");
  f.rule(type != "choice" || few_shot.prompt.empty(),
         "\"few_shot\" of a task of type choice takes its examples' texts from \"prompt\", "
         "\"choices\" and \"gold\": it has no \"prompt\" of its own");
  f.rule(type == "generate" || second_prompt.empty(),
         "\"second_prompt\" belongs to tasks of type generate");
}

std::vector<std::string> benchmark_names() {
  std::vector<std::string> names;
  if (const auto folder = shipped_folder())
    for (const auto& entry : fs::directory_iterator(*folder))
      if (entry.path().extension() == ".json") names.push_back(entry.path().stem().string());
  std::sort(names.begin(), names.end());
  return names;
}

DefinitionFile read_benchmark(const std::string& name) {
  DefinitionFile out;
  std::error_code ignored;
  if (fs::path(name).extension() == ".json" || fs::is_regular_file(name, ignored)) {
    out.file = name;
  } else {
    const auto folder = shipped_folder();
    if (!folder)
      throw ConfigError(
          fmt::format("the task '{}' was looked for in configs/tasks, which is neither in the "
                      "working directory nor beside the program: name the definition's file",
                      name));
    const std::vector<std::string> known = benchmark_names();
    if (std::find(known.begin(), known.end(), name) == known.end()) {
      const auto near = nearest_name(name, known);
      throw ConfigError(fmt::format(
          "there is no task '{}' in {}{}; there are: {}", name, folder->string(),
          near ? fmt::format(" (did you mean '{}'?)", *near) : "", fmt::join(known, ", ")));
    }
    out.file = (*folder / (name + ".json")).string();
  }
  const Config config = Config::from_file(out.file);
  read_config(config, out.definition);
  return out;
}

}  // namespace reverie
