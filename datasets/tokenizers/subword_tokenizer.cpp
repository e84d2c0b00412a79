#include "datasets/tokenizers/subword_tokenizer.h"

#include "core/error.h"
#include "datasets/tokenizers/unicode_classes.h"
#include "datasets/utf8.h"

namespace reverie {

namespace {

// The spec, once all that names a token names one that is there.
SubwordSpec checked(SubwordSpec spec, const std::string& file) {
  const auto fail = [&](const std::string& what) {
    throw DataError(fmt::format("{}: {}", file, what));
  };
  const auto size = int64_t(spec.tokens.size());
  if (size == 0) fail("the vocabulary is empty");
  for (int64_t id = 0; id < size; ++id) {
    const std::string& token = spec.tokens[size_t(id)];
    for (size_t at = 0; at < token.size();) {
      const CodePoint point = decode_code_point(token, at);
      if (point.bytes == 0) fail(fmt::format("token {} is not UTF-8", id));
      at += size_t(point.bytes);
    }
  }
  const auto check_id = [&](std::optional<int32_t> id, const char* what) {
    if (id && (*id < 0 || *id >= size))
      fail(fmt::format("the {} token is {}, outside the vocabulary of {}", what, *id, size));
  };
  check_id(spec.unknown, "unknown");
  check_id(spec.begin_of_text, "begin-of-text");
  check_id(spec.end_of_text, "end-of-text");
  if (spec.adds_begin_of_text && !spec.begin_of_text)
    fail("texts begin with a begin-of-text token, but none is named");
  for (const AddedToken& token : spec.added) {
    check_id(token.id, "added");
    if (token.text.empty()) fail(fmt::format("the added token {} has no text", token.id));
  }
  if (!spec.scores.empty() && (spec.scores.size() != spec.tokens.size() ||
                               spec.made_by_merging.size() != spec.tokens.size()))
    fail(fmt::format("{} scores for {} tokens", spec.scores.size(), size));
  return spec;
}

}  // namespace

SubwordTokenizer::SubwordTokenizer(SubwordSpec spec, const std::string& file)
    : spec_(checked(std::move(spec), file)),
      normalizer_(JsonAt(spec_.normalizer, file + ": normalizer")),
      pre_tokenizer_(JsonAt(spec_.pre_tokenizer, file + ": pre_tokenizer")),
      decoder_(JsonAt(spec_.decoder, file + ": decoder")),
      model_(spec_, pre_tokenizer_.byte_level()) {
  for (const std::string& token : spec_.tokens) pieces_.push_back(decoder_.bytes_of(token));
  cuts_ = normalizer_.local() && pre_tokenizer_.cuts_before_spaces();
  for (const AddedToken& token : spec_.added) {
    auto& finders = token.in_normalized ? in_normalized_ : in_text_;
    finders[1].add(token);
    if (!token.special) finders[0].add(token);
    // A text is cut between a character that is no space and a space.
    cuts_ = cuts_ && !token.takes_left && !token.takes_right &&
            token.text.find(' ', 1) == std::string::npos;
  }
}

std::shared_ptr<const SubwordTokenizer> SubwordTokenizer::from_definition(const Json& definition) {
  return std::make_shared<SubwordTokenizer>(subword_spec_from_json(definition));
}

int32_t SubwordTokenizer::ordinary_vocabulary_size() const {
  std::vector<bool> added(spec_.tokens.size());
  for (const AddedToken& token : spec_.added) added[size_t(token.id)] = true;
  size_t size = spec_.tokens.size();
  while (size > 0 && (added[size - 1] || spec_.tokens[size - 1].empty())) --size;
  return int32_t(size);
}

std::vector<int32_t> SubwordTokenizer::encode_text(std::string_view text,
                                                   SpecialTokens special) const {
  require_utf8(text);
  std::vector<int32_t> tokens;
  tokens.reserve(text.size() / 3);
  WordCaches::Lease cache(caches_);
  Scratch scratch{*cache, {}, {}, {}};
  const AddedTokenFinder& finder = in_text_[special == SpecialTokens::read];
  size_t at = 0;
  while (const auto found = finder.find(text, at)) {
    encode_ordinary(text.substr(at, found->begin - at), at == 0, special, scratch, tokens);
    tokens.push_back(found->id);
    at = found->end;
  }
  encode_ordinary(text.substr(at), at == 0, special, scratch, tokens);
  return tokens;
}

void SubwordTokenizer::encode_ordinary(std::string_view text, bool at_start, SpecialTokens special,
                                       Scratch& scratch, std::vector<int32_t>& tokens) const {
  if (text.empty()) return;
  if (!normalizer_.empty()) {
    scratch.normalized = text;
    normalizer_.apply(scratch.normalized);
    text = scratch.normalized;
  }
  const AddedTokenFinder& finder = in_normalized_[special == SpecialTokens::read];
  size_t at = 0;
  while (const auto found = finder.find(text, at)) {
    encode_normalized(text.substr(at, found->begin - at), at_start && at == 0, scratch, tokens);
    tokens.push_back(found->id);
    at = found->end;
  }
  encode_normalized(text.substr(at), at_start && at == 0, scratch, tokens);
}

void SubwordTokenizer::encode_normalized(std::string_view text, bool at_start, Scratch& scratch,
                                         std::vector<int32_t>& tokens) const {
  scratch.words.clear();
  pre_tokenizer_.split(pre_tokenizer_.prepare(text, at_start, scratch.prepared), scratch.words);
  const auto encode = [this](std::string_view word, std::vector<int32_t>& out) {
    model_.encode_word(word, out);
  };
  for (const std::string_view word : scratch.words)
    for (size_t part = 0; part < word.size();) {
      const size_t end = model_.part_end(word, part);
      scratch.cache.append(word.substr(part, end - part), tokens, encode);
      part = end;
    }
}

std::string SubwordTokenizer::decode_continued(std::span<const int32_t> tokens) const {
  std::string text;
  for (size_t i = 0; i < tokens.size(); ++i) {
    require(tokens[i] >= 0 && tokens[i] < vocabulary_size(),
            "token {} at position {} is outside the vocabulary of {}", tokens[i], i,
            vocabulary_size());
    text += pieces_[size_t(tokens[i])];
  }
  return text;
}

std::string SubwordTokenizer::decode(std::span<const int32_t> tokens) const {
  std::string text = decode_continued(tokens);
  decoder_.strip_start(text);
  return text;
}

size_t SubwordTokenizer::cut_after(std::string_view text, size_t wanted) const {
  if (!cuts_) return text.size();
  for (size_t at = text.find(' ', wanted); at != std::string_view::npos;
       at = text.find(' ', at + 1)) {
    if (at == 0) continue;
    size_t before = at - 1;
    while (before > 0 && (uint8_t(text[before]) & 0xC0u) == 0x80u) --before;
    const CodePoint point = decode_code_point(text, before);
    if (point.bytes > 0 && character_class(point.value) != CharacterClass::space &&
        model_.parts_before_space(text.substr(0, at)))
      return at;
  }
  return text.size();
}

}  // namespace reverie
