#include <algorithm>
#include <cstring>

#include "core/error.h"
#include "core/files.h"
#include "datasets/tokenizers/formats/pretrained_spec.h"
#include "datasets/tokenizers/formats/tokenizer_config.h"

namespace reverie {

namespace {

// One protocol-buffer message, field by field (the wire format's four kinds; no groups).
class Message {
 public:
  Message(std::string_view bytes, const std::string& file) : bytes_(bytes), file_(file) {}

  // Moves to the next field; false at the end.
  bool next() {
    if (at_ == bytes_.size()) return false;
    const uint64_t tag = take_varint();
    field_ = tag >> 3;
    kind_ = int(tag & 7);
    switch (kind_) {
      case 0:
        number_ = take_varint();
        break;
      case 1:
        text_ = take(8);
        break;
      case 2:
        text_ = take(take_varint());
        break;
      case 5:
        text_ = take(4);
        break;
      default:
        fail(fmt::format("a field of kind {}", kind_));
    }
    return true;
  }
  uint64_t field() const { return field_; }
  int64_t number() const { return of_kind(0), int64_t(number_); }
  std::string_view text() const { return of_kind(2), text_; }
  float real() const {
    of_kind(5);
    float value;
    std::memcpy(&value, text_.data(), 4);
    return value;
  }

 private:
  [[noreturn]] void fail(const std::string& what) const {
    throw DataError(fmt::format(
        "{}: {} is not what a SentencePiece model holds: truncated, or another kind of file", file_,
        what));
  }
  void of_kind(int kind) const {
    if (kind_ != kind) fail(fmt::format("field {} of kind {}", field_, kind_));
  }
  uint64_t take_varint() {
    uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      if (at_ == bytes_.size()) fail("a number cut off");
      const auto byte = uint8_t(bytes_[at_++]);
      value |= uint64_t(byte & 127u) << shift;
      if (byte < 128) return value;
    }
    fail("a number of more than 64 bits");
  }
  std::string_view take(uint64_t count) {
    if (count > bytes_.size() - at_) fail(fmt::format("a field of {} bytes", count));
    const std::string_view taken = bytes_.substr(at_, count);
    at_ += count;
    return taken;
  }

  std::string_view bytes_;
  const std::string& file_;
  size_t at_ = 0;
  uint64_t field_ = 0, number_ = 0;
  int kind_ = 0;
  std::string_view text_;
};

// What lies beside the model: tokens of more ids than it has, tokens found in text, and which begin
// and end one.
void apply(const TokenizerConfig& config, SubwordSpec& spec, const std::string& file) {
  const size_t own = spec.tokens.size();
  for (const AddedToken& token : config.added) {
    const auto id = size_t(token.id);
    if (id > own + config.added.size())
      throw DataError(fmt::format("{} adds the token {} to a vocabulary of {}: ids are missing",
                                  config.file, id, own));
    if (id >= spec.tokens.size()) {
      spec.tokens.resize(id + 1);
      spec.scores.resize(id + 1);
      spec.made_by_merging.resize(id + 1);
    }
    spec.tokens[id] = token.text;  // of a piece of the model's own, too, as the library has it
    const auto found = std::find_if(spec.added.begin(), spec.added.end(),
                                    [&](const AddedToken& other) { return other.id == token.id; });
    if (found == spec.added.end())
      spec.added.push_back({.id = token.id,
                            .text = token.text,
                            .special = token.special,
                            .takes_left = token.takes_left,
                            .takes_right = token.takes_right});
    else
      found->text = token.text;
  }
  const auto id_of = [&](const NamedToken& token) -> std::optional<int32_t> {
    const auto found = std::find(spec.tokens.begin(), spec.tokens.end(), token.text);
    if (found == spec.tokens.end())
      throw DataError(
          fmt::format("{} is \"{}\", which is no token of {}", token.path, token.text, file));
    return int32_t(found - spec.tokens.begin());
  };
  if (config.begin) spec.begin_of_text = id_of(*config.begin);
  if (config.end) spec.end_of_text = id_of(*config.end);
  spec.adds_begin_of_text = spec.begin_of_text && config.adds_begin.value_or(true);
  if (config.adds_end) warn_of_closed_texts(config.file);
}

}  // namespace

// Field numbers are those of sentencepiece_model.proto.
SubwordSpec read_sentencepiece(const std::string& file, const std::string& folder) {
  const std::string bytes = read_file(file);
  ScoredPieces pieces;
  int64_t model_type = 1, begin_id = 1, end_id = 2;  // the format's defaults
  bool escapes = true, removes_spaces = true, spaces_as_suffix = false, has_rules = false;
  Message model(bytes, file);
  while (model.next()) {
    if (model.field() == 1) {
      Message piece(model.text(), file);
      pieces.pieces.emplace_back();
      pieces.scores.push_back(0);
      pieces.kinds.push_back(ScoredPieces::normal);
      while (piece.next()) {
        if (piece.field() == 1)
          pieces.pieces.back() = piece.text();
        else if (piece.field() == 2)
          pieces.scores.back() = piece.real();
        else if (piece.field() == 3)
          pieces.kinds.back() = piece.number() > 0 && piece.number() < 100
                                    ? int8_t(piece.number())
                                    : int8_t(-1);  // refused with the others
      }
    } else if (model.field() == 2) {
      Message trainer(model.text(), file);
      while (trainer.next()) {
        if (trainer.field() == 3) model_type = trainer.number();
        if (trainer.field() == 24) spaces_as_suffix = trainer.number() != 0;
        if (trainer.field() == 41) begin_id = trainer.number();
        if (trainer.field() == 42) end_id = trainer.number();
      }
    } else if (model.field() == 3) {
      Message normalizer(model.text(), file);
      while (normalizer.next()) {
        if (normalizer.field() == 2) has_rules = !normalizer.text().empty();
        if (normalizer.field() == 3) pieces.space_before_text = normalizer.number() != 0;
        if (normalizer.field() == 4) removes_spaces = normalizer.number() != 0;
        if (normalizer.field() == 5) escapes = normalizer.number() != 0;
      }
    }
  }
  const auto unsupported = [&](const std::string& what) {
    throw DataError(fmt::format("{}: {}, which is not supported", file, what));
  };
  if (pieces.pieces.empty()) unsupported("no pieces");
  if (model_type != 2)
    unsupported(fmt::format("a model of type {}{}", model_type,
                            model_type == 1 ? " (unigram); wanted 2 (BPE)" : "; wanted 2 (BPE)"));
  if (has_rules) unsupported("a table of normalization rules");
  if (removes_spaces) unsupported("spaces in a row are taken for one");
  if (!escapes || spaces_as_suffix) unsupported("spaces are not written as U+2581 before words");
  const auto size = int64_t(pieces.pieces.size());
  SubwordSpec spec = scored_spec(std::move(pieces), file);
  if (begin_id >= 0 && begin_id < size) spec.begin_of_text = int32_t(begin_id);
  if (end_id >= 0 && end_id < size) spec.end_of_text = int32_t(end_id);
  spec.adds_begin_of_text = spec.begin_of_text.has_value();
  if (!folder.empty()) apply(read_tokenizer_config(folder), spec, file);
  return spec;
}

}  // namespace reverie
