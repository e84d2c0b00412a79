#include <cmath>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "datasets/example_marks.h"
#include "datasets/example_stages.h"
#include "datasets/layouts/layout.h"

namespace reverie {
namespace {

class ExampleText final : public CutText {
 public:
  ExampleText(std::vector<Example> examples, size_t training, const ExampleOptions& options,
              std::string vocabulary_text, std::string training_text)
      : examples_(std::move(examples)),
        options_(options),
        text_(std::move(vocabulary_text)),
        text_view_(text_),
        training_text_(std::move(training_text)),
        training_view_(training_text_.empty() ? text_view_ : training_text_),
        training_(training) {}
  std::string_view vocabulary_text() const override { return text_view_; }
  std::span<const std::string_view> training_texts() const override { return {&training_view_, 1}; }
  // Parts of examples are encoded as text whatever the options say.
  void set_tokenizer(const Tokenizer& tokenizer, SpecialTokens) override {
    tokenizer_ = &tokenizer;
    records_ = example_records(examples_, options_, tokenizer, layout_);
    if (!mixes_stages(options_)) return;
    for (size_t i = 0; i < training_; ++i)
      stageless_.push_back(stageless_record(examples_[i], tokenizer, layout_));
    stageless_length_ = fill_records(stageless_, layout_);
  }
  void write(Part part, TokenFileWriter& writer, const EncodedBytes&) const override {
    const bool training = part == Part::training;
    for (size_t i = training ? 0 : training_; i < (training ? training_ : records_.size()); ++i)
      writer.append(records_[i]);
  }
  void describe(Json& description) const override {
    description["examples"] = {{"count", records_.size()},
                               {"train", training_},
                               {"length", layout_.length},
                               {"first_mark", layout_.first_mark}};
    if (mixes_stages(options_))
      description["examples"]["mixed_stages"] = {{"share", options_.mixed_stages},
                                                 {"thoughts", options_.thoughts},
                                                 {"thought_steps", options_.thought_steps},
                                                 {"length", stageless_length_}};
  }
  void write_beside(const std::string& directory, const std::string& source_hash,
                    Json& description) const override {
    if (!mixes_stages(options_)) return;
    TokenFileWriter steps(path_in(directory, kTrainStepsFile),
                          tokenizer_->vocabulary_size() + marks_behind(*tokenizer_),
                          tokenizer_->hash(), source_hash);
    for (const auto& record : stageless_) steps.append(record);
    steps.finish();
    description["train_steps"] = {{"tokens", steps.count()}, {"checksum", steps.checksum()}};
  }

 private:
  std::vector<Example> examples_;
  ExampleOptions options_;
  std::string text_;
  std::string_view text_view_;
  std::string training_text_;  // empty: byte pairs are learnt from the vocabulary's text
  std::string_view training_view_;
  size_t training_;  // records of the training part
  const Tokenizer* tokenizer_ = nullptr;
  std::vector<std::vector<int32_t>> records_, stageless_;
  int64_t stageless_length_ = 0;
  ExampleLayout layout_;
};

class ExamplesLayout final : public Layout {
 public:
  ExamplesLayout(const DataOptions& options, std::string name)
      : options_(options), name_(std::move(name)) {}
  void add_to_creation(Json& creation) const override {
    creation["examples"]["form"] = options_.examples.form;
    add_stage_to_creation(options_.examples, creation);
  }
  std::string directory_suffix() const override {
    return fmt::format("-stage{}x{}", options_.examples.stage, options_.examples.thoughts);
  }
  int32_t marks(const Tokenizer& tokenizer) const override { return marks_behind(tokenizer); }
  std::vector<std::string> own_files() const override { return stage_files(options_.examples); }
  std::unique_ptr<CutText> cut(const TextInput& input, size_t) const override {
    try {
      std::vector<Example> examples = read_examples(options_.examples.form, input.text);
      const size_t training = training_examples(examples.size());
      // The held-out ones too: a vocabulary must know every word that is asked for.
      std::string text = text_of_examples(examples);
      return cut_examples(std::move(examples), training, options_.examples, std::move(text), "");
    } catch (const DataError& error) {
      throw DataError(fmt::format("{}: {}", name_, error.what()));
    }
  }

 private:
  size_t training_examples(size_t all) const {
    const auto training = size_t(std::floor(double(all) * (1.0 - options_.validation_fraction)));
    require(training >= 1 && training < all,
            "{} examples, of which validation_fraction {} leaves {} to train on and {} to hold out",
            all, options_.validation_fraction, training, all - training);
    return training;
  }

  DataOptions options_;
  std::string name_;
};

}  // namespace

std::unique_ptr<CutText> cut_examples(std::vector<Example> examples, size_t training,
                                      const ExampleOptions& options, std::string vocabulary_text,
                                      std::string training_text) {
  return std::make_unique<ExampleText>(std::move(examples), training, options,
                                       std::move(vocabulary_text), std::move(training_text));
}

void add_stage_to_creation(const ExampleOptions& options, Json& creation) {
  Json& examples = creation["examples"];
  examples["stage"] = options.stage;
  examples["thoughts"] = options.thoughts;
  // Younger than many prepared data, whose directories must keep their names.
  if (options.thought_steps > 0) examples["thought_steps"] = options.thought_steps;
  if (mixes_stages(options)) examples["mixed_stages"] = options.mixed_stages;
}

std::vector<std::string> stage_files(const ExampleOptions& options) {
  if (!mixes_stages(options)) return {};
  return {kTrainStepsFile};
}

std::shared_ptr<const Layout> example_layout(const DataOptions& options, const std::string& name) {
  return std::make_shared<ExamplesLayout>(options, name);
}

}  // namespace reverie
