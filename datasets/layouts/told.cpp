// Records of what a text told, for a decoder that puts a model's memory into words: what was read,
// and then what is to be written of it. They are records of examples (ExampleLayout): the question is
// what was read, the answer what is written; steps have the facts that decide an answer before it.
//   recount  the last tokens that were read
//   facts    the last facts of a generated document
//   steps    for each answer of a generated document: the facts that decide it, and the answer

#include <algorithm>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/error.h"
#include "datasets/layouts/layout.h"
#include "datasets/layouts/task_documents.h"
#include "datasets/layouts/told_lengths.h"

namespace reverie {
namespace {

constexpr int64_t kReadOfText = 64;  // tokens, unless the options say so

int64_t read_of_text(const ExampleOptions& options) {
  return options.read == 0 ? kReadOfText : options.read;
}
// A document as a whole where every answer in it counts, or nothing else is said.
int64_t read_of_task(const ExampleOptions& options, const GeneratedTask& task) {
  const int64_t whole = task.options().window * task.options().windows;
  return options.read == 0 || options.form == "steps" ? whole : options.read;
}

// A record's length where so many tokens are read, and at most so many are written.
int64_t length_of(int64_t read, int64_t written) {
  return read + written + 4;
}

Json description_of(const ExampleOptions& options, const ExampleLayout& layout, int64_t train,
                    int64_t count) {
  return {{"count", count},
          {"train", train},
          {"length", layout.length},
          {"first_mark", layout.first_mark},
          {"form", options.form}};
}

// ---- a text -----------------------------------------------------------------------
class ToldOfText final : public CutText {
 public:
  ToldOfText(std::string_view text, size_t training_bytes, const ExampleOptions& options)
      : options_(options),
        read_(read_of_text(options)),
        text_(text),
        training_(text.substr(0, training_bytes)),
        held_out_(text.substr(training_bytes)) {}
  std::string_view vocabulary_text() const override { return text_; }
  std::span<const std::string_view> training_texts() const override { return {&training_, 1}; }
  void set_tokenizer(const Tokenizer& tokenizer, SpecialTokens special) override {
    require(options_.tokens <= read_,
            "$.data.examples.tokens is {}, but only {} tokens are read before them "
            "($.data.examples.read): wanted at most as many",
            options_.tokens, read_);
    layout_.first_mark = tokenizer.vocabulary_size();
    layout_.length = length_of(read_, options_.tokens);
    const size_t end = end_of_training(text_, training_.size(), tokenizer);
    training_ = text_.substr(0, end);
    held_out_ = text_.substr(end);
    train_tokens_ = tokenizer.encode(training_, special);
    held_out_tokens_ = tokenizer.encode(held_out_, special);
    for (const auto* part : {&train_tokens_, &held_out_tokens_})
      require(int64_t(part->size()) >= read_,
              "a part of the text has {} tokens, but each record reads {} "
              "($.data.examples.read): lower it, or give a longer text",
              part->size(), read_);
  }
  // One record for every `tokens` tokens, so that each token is written once.
  void write(Part part, TokenFileWriter& writer, const EncodedBytes& encoded) const override {
    const auto& tokens = part == Part::training ? train_tokens_ : held_out_tokens_;
    for (int64_t begin = 0; begin + read_ <= int64_t(tokens.size()); begin += options_.tokens) {
      const std::span<const int32_t> read(tokens.data() + begin, size_t(read_));
      auto record = record_of(layout_, read, {}, read.last(size_t(options_.tokens)));
      record.resize(size_t(layout_.length), layout_.end());
      writer.append(record);
    }
    encoded(part == Part::training ? training_.size() : held_out_.size());
  }
  void describe(Json& description) const override {
    const int64_t train = records_in(train_tokens_);
    description["examples"] =
        description_of(options_, layout_, train, train + records_in(held_out_tokens_));
  }

 private:
  int64_t records_in(const std::vector<int32_t>& tokens) const {
    return (int64_t(tokens.size()) - read_) / options_.tokens + 1;
  }

  ExampleOptions options_;
  int64_t read_;
  std::string_view text_, training_, held_out_;
  ExampleLayout layout_;
  std::vector<int32_t> train_tokens_, held_out_tokens_;
};

// ---- a generated task ---------------------------------------------------------------
class ToldOfTask final : public CutText {
 public:
  ToldOfTask(std::shared_ptr<const GeneratedTask> task, const ExampleOptions& options)
      : options_(options), task_(std::move(task)), documents_(*task_), text_(documents_.text()) {
    const int64_t whole = task_->options().window * task_->options().windows;
    read_ = read_of_task(options, *task_);
    require(read_ <= whole,
            "$.data.examples.read is {}, but a document of the task has {} tokens: wanted at most "
            "as many",
            read_, whole);
    text_view_ = text_;
  }
  std::string_view vocabulary_text() const override { return text_view_; }
  std::span<const std::string_view> training_texts() const override { return {&text_view_, 1}; }
  void set_tokenizer(const Tokenizer& tokenizer, SpecialTokens) override {
    ids_ = documents_.ids(tokenizer);
    layout_.first_mark = tokenizer.vocabulary_size();
    layout_.length = length_of(read_, options_.tokens);
  }
  void write(Part part, TokenFileWriter& writer, const EncodedBytes&) const override {
    const TaskSplit split = part == Part::training ? TaskSplit::train : TaskSplit::validation;
    int64_t& records = part == Part::training ? train_ : held_out_;
    records = 0;
    for (int64_t i = 0; i < documents_.count(split); ++i) {
      TaskTokens document;
      documents_.write(split, i, document);
      for (auto& record : records_of(document)) {
        record.resize(size_t(layout_.length), layout_.end());
        writer.append(record);
        ++records;
      }
    }
    require(records > 0,
            "the generated task gives nothing to write of the form {}: wanted a task that tells "
            "facts and asks for them, such as tracking",
            options_.form);
  }
  void describe(Json& description) const override {
    description["examples"] = description_of(options_, layout_, train_, train_ + held_out_);
    // Facts end in a full stop, by which what a decoder wrote is cut into facts again.
    const auto& words = documents_.words();
    if (const auto stop = std::find(words.begin(), words.end(), "."); stop != words.end())
      description["examples"]["fact_end"] = ids_[size_t(stop - words.begin())];
  }

 private:
  using Record = std::vector<int32_t>;

  std::vector<Record> records_of(const TaskTokens& document) const {
    if (options_.form == "steps") return records_of_answers(document);
    const std::span<const int32_t> read(document.tokens.data(), size_t(read_));
    if (options_.form == "facts") {
      const Record facts = last_facts(read);
      if (facts.empty()) return {};
      return {record_of(layout_, tokens_of(read), {}, facts)};
    }
    const auto said = static_cast<size_t>(std::min(options_.tokens, read_));
    return {record_of(layout_, tokens_of(read), {}, tokens_of(read.last(said)))};
  }
  std::vector<Record> records_of_answers(const TaskTokens& document) const {
    std::vector<Record> records;
    for (size_t i = 0; i < document.tokens.size(); ++i) {
      if (document.labels[i] == 0) continue;
      const std::span<const int32_t> read(document.tokens.data(), i);
      const Record steps = joined(task_->steps(words_of(read)));
      if (steps.empty()) return {};
      require(int64_t(steps.size()) < options_.tokens,
              "the steps to an answer and the answer take {} tokens, $.data.examples.tokens is {}: "
              "raise it",
              steps.size() + 1, options_.tokens);
      records.push_back(
          record_of(layout_, tokens_of(read), steps, tokens_of({&document.tokens[i], 1})));
    }
    return records;
  }
  // As many of the last facts as `tokens` holds.
  Record last_facts(std::span<const int32_t> read) const {
    auto facts = task_->facts(words_of(read));
    if (facts.empty()) return {};
    auto size = static_cast<int64_t>(facts.back().size());
    require(size <= options_.tokens,
            "a fact takes {} tokens, $.data.examples.tokens is {}: raise it", size,
            options_.tokens);
    auto first = facts.end() - 1;
    while (first != facts.begin() && size + int64_t((first - 1)->size()) <= options_.tokens)
      size += int64_t((--first)->size());
    facts.erase(facts.begin(), first);
    return joined(facts);
  }
  // Without marks and padding.
  std::vector<int64_t> words_of(std::span<const int32_t> tokens) const {
    std::vector<int64_t> words;
    for (const int32_t word : tokens)
      if (word < documents_.document_mark()) words.push_back(word);
    return words;
  }
  Record tokens_of(std::span<const int32_t> words) const {
    Record out;
    for (const int32_t word : words) out.push_back(ids_[size_t(word)]);
    return out;
  }
  Record joined(const std::vector<TaskSentence>& sentences) const {
    Record out;
    for (const TaskSentence& s : sentences)
      for (const int64_t word : s) out.push_back(ids_[size_t(word)]);
    return out;
  }

  ExampleOptions options_;
  std::shared_ptr<const GeneratedTask> task_;
  TaskDocuments documents_;
  int64_t read_ = 0;
  std::string text_;
  std::string_view text_view_;
  std::vector<int32_t> ids_;  // of each word
  ExampleLayout layout_;
  mutable int64_t train_ = 0, held_out_ = 0;  // records that write() wrote
};

class ToldLayout final : public Layout {
 public:
  explicit ToldLayout(const DataOptions& options) : options_(options.examples) {
    if (!options.generated.given()) {
      require(options_.form == "recount",
              "$.data.examples.form is {}, which is made of a generated task ($.data.generated), "
              "and there is none: wanted \"recount\" for a text",
              options_.form);
      return;
    }
    resolved_ = *options.generated.resolved;
    task_ = TaskRegistry::instance().make(options.generated);
  }
  void add_to_creation(Json& creation) const override {
    if (task_) creation["generated"] = resolved_;
    creation["examples"] = {
        {"form", options_.form}, {"read", options_.read}, {"tokens", options_.tokens}};
  }
  std::string directory_suffix() const override { return "-" + options_.form; }
  int32_t marks(const Tokenizer&) const override { return ExampleLayout::kMarks; }
  bool reads_text() const override { return task_ == nullptr; }
  std::unique_ptr<CutText> cut(const TextInput& input, size_t training_bytes) const override {
    if (task_) return std::make_unique<ToldOfTask>(task_, options_);
    return std::make_unique<ToldOfText>(input.text, training_bytes, options_);
  }

 private:
  ExampleOptions options_;
  Json resolved_;
  std::shared_ptr<const GeneratedTask> task_;
};

}  // namespace

ReadLengths read_lengths(const DataOptions& options) {
  const ExampleOptions& examples = options.examples;
  if (!examples.told()) return {};
  if (!options.generated.given()) return {read_of_text(examples), read_of_text(examples)};
  const int64_t read = read_of_task(examples, *TaskRegistry::instance().make(options.generated));
  // Steps are told of every answer's beginning.
  return {examples.form == "steps" ? 1 : read, read};
}

std::shared_ptr<const Layout> told_layout(const DataOptions& options) {
  return std::make_shared<ToldLayout>(options);
}

}  // namespace reverie
