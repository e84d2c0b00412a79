#include <nlohmann/json.hpp>

#include "datasets/encode.h"
#include "datasets/layouts/layout.h"

namespace reverie {
namespace {

class PlainText final : public CutText {
 public:
  PlainText(std::string_view text, size_t training_bytes)
      : text_(text),
        training_(text.substr(0, training_bytes)),
        held_out_(text.substr(training_bytes)) {}
  std::string_view vocabulary_text() const override { return text_; }
  std::span<const std::string_view> training_texts() const override { return {&training_, 1}; }
  void set_tokenizer(const Tokenizer& tokenizer, SpecialTokens special) override {
    tokenizer_ = &tokenizer;
    special_ = special;
    const size_t end = end_of_training(text_, training_.size(), tokenizer);
    training_ = text_.substr(0, end);
    held_out_ = text_.substr(end);
  }
  void write(Part part, TokenFileWriter& writer, const EncodedBytes& encoded) const override {
    encode_into(writer, *tokenizer_, part == Part::training ? training_ : held_out_, special_,
                encoded);
  }
  void describe(Json&) const override {}

 private:
  std::string_view text_, training_, held_out_;
  const Tokenizer* tokenizer_ = nullptr;
  SpecialTokens special_ = SpecialTokens::read;
};

class PlainTextLayout final : public Layout {
 public:
  void add_to_creation(Json&) const override {}
  std::string directory_suffix() const override { return ""; }
  int32_t marks(const Tokenizer&) const override { return 0; }
  std::unique_ptr<CutText> cut(const TextInput& input, size_t training_bytes) const override {
    return std::make_unique<PlainText>(input.text, training_bytes);
  }
};

}  // namespace

std::shared_ptr<const Layout> plain_text_layout() {
  return std::make_shared<PlainTextLayout>();
}

}  // namespace reverie
