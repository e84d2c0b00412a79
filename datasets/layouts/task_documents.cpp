#include "datasets/layouts/task_documents.h"

#include <algorithm>

#include "core/error.h"
#include "core/random.h"

namespace reverie {
namespace {

std::string as_text(const std::string& word) {
  const auto is_letter = [](char c) {
    return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
  };
  if (!word.empty() && std::all_of(word.begin(), word.end(), is_letter)) return " " + word;
  require(word.size() == 1 && (word[0] > ' ' || word == kWindowMark),
          "a generated task has the word '{}'; wanted letters and digits, or one other character",
          word);
  return word;
}

}  // namespace

TaskDocuments::TaskDocuments(const GeneratedTask& task) : task_(task), words_(task.words()) {
  const int64_t own = int64_t(words_.size());
  document_mark_ = own;
  window_mark_ = own + 1;
  padding_ = own + 2;
  for (const char* mark : {kDocumentMark, kWindowMark, kPaddingWord}) words_.push_back(mark);
  auto sorted = words_;
  std::sort(sorted.begin(), sorted.end());
  const auto twice = std::adjacent_find(sorted.begin(), sorted.end());
  require(twice == sorted.end(), "a generated task has the word '{}' twice, or it is a mark",
          twice == sorted.end() ? "" : *twice);
}

std::string TaskDocuments::text() const {
  std::string all;
  for (const std::string& word : words_) all += as_text(word);
  return all;
}

std::vector<int32_t> TaskDocuments::ids(const Tokenizer& tokenizer) const {
  std::vector<int32_t> all;
  for (const std::string& word : words_) {
    const auto tokens = tokenizer.encode(as_text(word), SpecialTokens::as_text);
    require(tokens.size() == 1, "the tokenizer {} makes {} tokens of the word '{}'; wanted one",
            tokenizer.name(), tokens.size(), word);
    all.push_back(tokens[0]);
  }
  return all;
}

int64_t TaskDocuments::count(TaskSplit split) const {
  const TaskOptions& o = task_.options();
  return split == TaskSplit::train        ? o.documents
         : split == TaskSplit::validation ? o.validation_documents
                                          : o.test_documents;
}

void TaskDocuments::write(TaskSplit split, int64_t number, TaskTokens& out) const {
  const TaskOptions& o = task_.options();
  Generator random(derive_seed(derive_seed(uint64_t(o.seed), uint64_t(split)), uint64_t(number)));
  const auto windows = task_.document(random);
  require(int64_t(windows.size()) == o.windows, "a task wrote {} windows of a document; wanted {}",
          windows.size(), o.windows);
  for (int64_t w = 0; w < o.windows; ++w) {
    const TaskWindow& tokens = windows[size_t(w)];
    const auto written = int64_t(tokens.size());
    require(written < o.window,
            "a task wrote {} tokens into a window of {}, which has room for "
            "{} behind its mark",
            written, o.window, o.window - 1);
    out.add(w == 0 ? document_mark_ : window_mark_);
    for (const TaskToken& t : tokens) {
      require(t.word >= 0 && t.word < document_mark_ && t.distance <= w,
              "a task wrote word {} of {} with distance {} in window {}", t.word, document_mark_,
              t.distance, w);
      out.add(t.word, t.distance);
    }
    for (int64_t i = written + 1; i < o.window; ++i) out.add(padding_);
  }
}

}  // namespace reverie
