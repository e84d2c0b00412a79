#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/log.h"
#include "datasets/layouts/layout.h"
#include "datasets/layouts/task_documents.h"
#include "datasets/task_data.h"

namespace reverie {
namespace {

constexpr int64_t kReadableDocuments = 8, kHashedDocuments = 4;
using Split = TaskSplit;
constexpr Split kTrain = Split::train, kValidation = Split::validation, kTest = Split::test;

class GeneratedText final : public CutText {
 public:
  explicit GeneratedText(std::shared_ptr<const GeneratedTask> task)
      : task_(std::move(task)), documents_(*task_) {
    text_ = documents_.text();
    text_view_ = text_;
  }
  std::string_view vocabulary_text() const override { return text_view_; }
  std::span<const std::string_view> training_texts() const override { return {&text_view_, 1}; }

  void set_tokenizer(const Tokenizer& tokenizer, SpecialTokens) override {
    tokenizer_ = &tokenizer;
    ids_ = documents_.ids(tokenizer);
  }
  void write(Part part, TokenFileWriter& writer, const EncodedBytes&) const override {
    write_split(part == Part::training ? kTrain : kValidation, &writer, nullptr);
  }
  void write_beside(const std::string& directory, const std::string& source_hash,
                    Json& description) const override {
    const auto in = [&](const char* file) { return directory + "/" + file; };
    TokenFileWriter test(in(kTestFile), tokenizer_->vocabulary_size(), tokenizer_->hash(),
                         source_hash);
    write_split(kTest, &test, nullptr);
    test.finish();
    description["test"] = {{"tokens", test.count()}, {"checksum", test.checksum()}};
    for (const auto& [split, name, file] : {std::tuple{kTrain, "train", kTrainAnswersFile},
                                            {kValidation, "validation", kValidationAnswersFile},
                                            {kTest, "test", kTestAnswersFile}}) {
      TokenFileWriter labels(in(file), task_->options().windows + 1, "", source_hash);
      const auto counted = write_split(split, nullptr, &labels);
      labels.finish();
      if (split == kTrain) warn_of_missing_distances(counted);
      Json answers = Json::object();
      for (const auto& [distance, count] : counted) answers[std::to_string(distance)] = count;
      description[name]["answers"] = answers;
    }
    write_file_atomically(in(kReadableDocumentsFile), readable());
  }
  void describe(Json& description) const override {
    const TaskOptions& o = task_->options();
    std::vector<int64_t> distances = o.distances;
    std::sort(distances.begin(), distances.end());
    distances.erase(std::unique(distances.begin(), distances.end()), distances.end());
    Json chance = Json::array();
    for (const int64_t d : distances) chance.push_back(task_->chance(d));
    description["generated"] = {{"type", description["creation"]["generated"]["type"]},
                                {"window", o.window},
                                {"windows", o.windows},
                                {"distances", distances},
                                {"chance", chance},
                                {"loss", o.loss}};
    description["documents"] = {
        {"count", o.documents + o.validation_documents},
        {"train", o.documents},
        {"mark", {{"token", ids_[size_t(documents_.document_mark())]}, {"begins", true}}}};
  }

 private:
  void warn_of_missing_distances(const std::map<int64_t, int64_t>& answers) const {
    for (const int64_t distance : task_->options().distances)
      if (!answers.contains(distance))
        log_warning(
            "no answer of the {} generated documents is decided {} windows before, though "
            "$.data.generated.distances has {}: give more windows or documents, fewer questions, "
            "or other distances",
            documents_.count(kTrain), distance, distance);
  }

  // How many answers there are of each distance.
  std::map<int64_t, int64_t> write_split(Split split, TokenFileWriter* tokens,
                                         TokenFileWriter* labels) const {
    std::map<int64_t, int64_t> answers;
    const int64_t count = documents_.count(split);
    for (int64_t i = 0; i <= count; ++i) {
      TaskTokens document;
      if (i < count)
        documents_.write(split, i, document);
      else
        document.add(documents_.document_mark());  // the target of the last document's last token
      for (int32_t& word : document.tokens) word = ids_[size_t(word)];
      for (const int32_t label : document.labels)
        if (label > 0) ++answers[label - 1];
      if (tokens) tokens->append(document.tokens);
      if (labels) labels->append(document.labels);
    }
    return answers;
  }

  // The first documents of validation, a window a paragraph: its words, with the distance behind
  // each answer, and their ids.
  std::string readable() const {
    const TaskOptions& o = task_->options();
    std::string text = fmt::format(
        "The first documents of validation, window by window: words, then token ids. [2] behind a "
        "word: an answer, decided 2 windows before.\n");
    for (int64_t i = 0; i < std::min(kReadableDocuments, o.validation_documents); ++i) {
      TaskTokens document;
      documents_.write(kValidation, i, document);
      for (int64_t w = 0; w < o.windows; ++w) {
        text += fmt::format("\ndocument {}, window {}\n", i, w);
        std::string ids;
        for (int64_t at = w * o.window; at < (w + 1) * o.window; ++at) {
          const auto word = size_t(document.tokens[size_t(at)]);
          const std::string& spelling = documents_.words()[word];
          text += (at == w * o.window ? "" : " ") + (spelling == kWindowMark ? "\\n" : spelling);
          if (const int32_t label = document.labels[size_t(at)]; label > 0)
            text += fmt::format("[{}]", label - 1);
          ids += fmt::format("{}{}", at == w * o.window ? "" : " ", ids_[word]);
        }
        text += "\n" + ids + "\n";
      }
    }
    return text;
  }

  std::shared_ptr<const GeneratedTask> task_;
  TaskDocuments documents_;
  std::string text_;
  std::string_view text_view_;
  const Tokenizer* tokenizer_ = nullptr;
  std::vector<int32_t> ids_;  // of each word
};

class GeneratedLayout final : public Layout {
 public:
  GeneratedLayout(const Component& component, std::shared_ptr<const GeneratedTask> task)
      : resolved_(*component.resolved), task_(std::move(task)) {}
  void add_to_creation(Json& creation) const override { creation["generated"] = resolved_; }
  std::string directory_suffix() const override { return ""; }
  int32_t marks(const Tokenizer&) const override { return 0; }
  bool reads_text() const override { return false; }
  std::vector<std::string> own_files() const override {
    return {kTestFile, kTrainAnswersFile, kValidationAnswersFile, kTestAnswersFile};
  }
  std::unique_ptr<CutText> cut(const TextInput&, size_t) const override {
    return std::make_unique<GeneratedText>(task_);
  }

 private:
  Json resolved_;
  std::shared_ptr<const GeneratedTask> task_;
};

}  // namespace

// A generator whose code has changed makes other documents, so the first of them are hashed beside
// the options.
std::string hash_of_generated(const Component& component) {
  const auto task = TaskRegistry::instance().make(component);
  const TaskDocuments documents(*task);
  TaskTokens first;
  for (int64_t i = 0; i < kHashedDocuments; ++i) documents.write(kTrain, i, first);
  std::string all = component.resolved->dump() + "\n";
  for (const std::string& word : documents.words()) all += word + "\n";
  all += fmt::format("{}\n{}\n", fmt::join(first.tokens, " "), fmt::join(first.labels, " "));
  return hash_bytes(all.data(), all.size());
}

std::shared_ptr<const Layout> generated_layout(const Component& component) {
  return std::make_shared<GeneratedLayout>(component, TaskRegistry::instance().make(component));
}

}  // namespace reverie
