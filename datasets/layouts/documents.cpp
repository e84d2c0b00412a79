#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/files.h"
#include "datasets/compressed.h"
#include "datasets/encode.h"
#include "datasets/layouts/layout.h"

namespace reverie {
namespace {

using Documents = std::span<const std::string_view>;

// Whether the bytes at `file`, not compressed, hold a line end of Windows.
bool has_windows_line_ends(const std::string& file) {
  const auto mapping = map_file(file);
  const std::string_view text(static_cast<const char*>(mapping->data()), mapping->bytes());
  return text.find("\r\n") != text.npos;
}

class DocumentText final : public CutText {
 public:
  // Only whole documents: one that begins in the training part belongs to it.
  DocumentText(const TextInput& input, size_t training_bytes, std::string token)
      : text_(input.text), documents_(input.documents), token_(std::move(token)) {
    const char* end = text_.data() + training_bytes;
    const auto first_held_out = std::find_if(documents_.begin(), documents_.end(),
                                             [&](std::string_view d) { return d.data() >= end; });
    training_ = documents_.first(size_t(first_held_out - documents_.begin()));
  }
  std::string_view vocabulary_text() const override { return text_; }
  Documents training_texts() const override { return training_; }
  void set_tokenizer(const Tokenizer& tokenizer, SpecialTokens special) override {
    tokenizer_ = &tokenizer;
    special_ = special;
    mark_ = document_mark(tokenizer, token_);
  }
  void write(Part part, TokenFileWriter& writer, const EncodedBytes& encoded) const override {
    encode_documents_into(writer, *tokenizer_,
                          part == Part::training ? training_ : documents_.subspan(training_.size()),
                          mark_, special_, encoded);
  }
  void describe(Json& description) const override {
    description["documents"] = {{"count", documents_.size()},
                                {"train", training_.size()},
                                {"mark", {{"token", mark_.token}, {"begins", mark_.begins}}}};
  }

 private:
  std::string_view text_;
  Documents documents_, training_;
  std::string token_;
  const Tokenizer* tokenizer_ = nullptr;
  SpecialTokens special_ = SpecialTokens::read;
  DocumentMark mark_;
};

class DocumentLayout final : public Layout {
 public:
  DocumentLayout(const DataOptions& options, const TextFiles& files)
      : separator_(options.document_separator),
        token_(options.document_token),
        field_(options.field),
        many_(files.documents),
        windows_line_ends_(!many_ && has_windows_line_ends(files.files.front())) {}
  void add_to_creation(Json& creation) const override {
    Json& documents = creation["documents"];
    documents = {{"separator", separator_}, {"token", token_}};
    if (many_) documents["field"] = field_;
    if (windows_line_ends_) documents["line_ends"] = "crlf";  // once they separated nothing
  }
  std::string directory_suffix() const override { return separator_.empty() ? "" : "-documents"; }
  int32_t marks(const Tokenizer&) const override { return 0; }
  std::unique_ptr<CutText> cut(const TextInput& input, size_t training_bytes) const override {
    return std::make_unique<DocumentText>(input, training_bytes, token_);
  }

 private:
  std::string separator_, token_, field_;
  bool many_;  // files or lines, each a document at least
  bool windows_line_ends_;
};

}  // namespace

std::shared_ptr<const Layout> document_layout(const DataOptions& options, const TextFiles& files) {
  return std::make_shared<DocumentLayout>(options, files);
}

}  // namespace reverie
