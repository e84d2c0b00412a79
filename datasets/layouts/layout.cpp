#include "datasets/layouts/layout.h"

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace reverie {

std::shared_ptr<const Layout> layout_of(const DataOptions& options, const TextFiles& files,
                                        const std::string& name) {
  const bool separated = !options.document_separator.empty();
  if (options.examples.told()) {
    require(!separated && !files.documents,
            "$.data.examples.form {} is made of one text or of a generated task, got documents: "
            "leave out document_separator, and give one text file",
            options.examples.form);
    return told_layout(options);
  }
  require(
      options.problems.given() || options.examples.given() ||
          (!mixes_stages(options.examples) && options.examples.thought_steps == 0),
      "$.data.examples.mixed_stages and thought_steps are of examples with steps, and there are "
      "none: give $.data.problems or $.data.examples.form, or leave them out");
  if (options.problems.given()) return problem_layout(options);
  if (options.generated.given()) return generated_layout(options.generated);
  if (options.examples.given()) {
    require(!files.documents, "examples come from one file, got {}", options.path);
    require(!separated, "examples have their own format, so document_separator must be empty");
    return example_layout(options, name);
  }
  if (separated || files.documents) return document_layout(options, files);
  return plain_text_layout();
}

size_t end_of_training(std::string_view text, size_t training_bytes, const Tokenizer& tokenizer) {
  return tokenizer.encodes_parts_of_words() ? training_bytes
                                            : tokenizer.cut_after(text, training_bytes);
}

RecordedLayout recorded_layout(const Json& provenance) {
  RecordedLayout layout;
  if (const auto examples = provenance.find("examples"); examples != provenance.end()) {
    layout.examples = ExampleLayout{examples->at("length"), examples->at("first_mark")};
    if (const auto mix = examples->find("mixed_stages"); mix != examples->end())
      layout.stage_mix = StageMix{
          mix->at("share"), {mix->at("thoughts"), mix->at("thought_steps")}, mix->at("length")};
    const int32_t tokens = provenance.at("tokenizer").at("vocabulary_size");
    layout.marks = layout.examples->first_mark < tokens ? 0 : ExampleLayout::kMarks;
  }
  if (const auto documents = provenance.find("documents"); documents != provenance.end()) {
    const Json& mark = documents->at("mark");
    layout.documents = DocumentMark{mark.at("token"), mark.at("begins")};
  }
  if (const auto task = provenance.find("generated"); task != provenance.end())
    layout.task = TaskLayout{task->at("type"),      task->at("window"), task->at("windows"),
                             task->at("distances"), task->at("chance"), task->at("loss") != "all"};
  return layout;
}

}  // namespace reverie
