#include "datasets/tokenizers/pipeline/decoder.h"

#include "datasets/tokenizers/byte_alphabet.h"

namespace reverie {


std::optional<uint8_t> byte_of_token(std::string_view token) {
  if (token.size() != 6 || !token.starts_with("<0x") || token[5] != '>') return std::nullopt;
  uint8_t value = 0;
  for (const char c : token.substr(3, 2)) {
    value = uint8_t(value << 4);
    if (c >= '0' && c <= '9')
      value |= uint8_t(c - '0');
    else if (c >= 'A' && c <= 'F')
      value |= uint8_t(c - 'A' + 10);
    else if (c >= 'a' && c <= 'f')
      value |= uint8_t(c - 'a' + 10);
    else
      return std::nullopt;
  }
  return value;
}

Decoder::Decoder(const JsonAt& description) {
  if (description.is_null()) description.fail("is null; a decoder is needed to write text");
  add(description, 0);
}

void Decoder::add(const JsonAt& description, int depth) {
  if (depth > kDeepestSequence) description.fail("is nested too deeply");
  const std::string type = description.at("type").text();
  // What comes after tokens were joined may only take away at the start.
  if (strip_count_ > 0) description.fail("comes after Strip, which is not supported");
  if (type == "Sequence") {
    for (const JsonAt& item : description.at("decoders").items()) add(item, depth + 1);
  } else if (type == "ByteLevel") {
    byte_level_ = true;
  } else if (type == "ByteFallback") {
    byte_fallback_ = true;
  } else if (type == "Replace") {
    if (byte_fallback_) description.fail("comes after ByteFallback, which is not supported");
    replacements_.emplace_back(description.at("pattern").at("String").text(),
                               description.at("content").text());
    if (replacements_.back().first.empty()) description.at("pattern").fail("is empty");
  } else if (type == "Strip") {
    if (description.at("stop").integer() != 0) description.at("stop").unsupported("0");
    strip_ = description.at("content").text();
    strip_count_ = description.at("start").integer();
    if (strip_.empty() || strip_count_ < 0) description.fail("strips nothing sensible");
  } else if (type == "Metaspace") {
    replacements_.emplace_back(description.text_or("replacement", "\xE2\x96\x81"), " ");
    if (replacements_.back().first.empty()) description.at("replacement").fail("is empty");
    if (description.text_or("prepend_scheme", "always") != "never" &&
        description.boolean_or("add_prefix_space", true)) {
      strip_ = " ";
      strip_count_ = 1;
    }
  } else if (type != "Fuse") {
    description.at("type").unsupported(
        "Sequence, ByteLevel, Replace, ByteFallback, Fuse, Strip or Metaspace");
  }
}

std::string Decoder::bytes_of(std::string token) const {
  for (const auto& [from, to] : replacements_)
    for (size_t at = token.find(from); at != std::string::npos; at = token.find(from, at)) {
      token.replace(at, from.size(), to);
      at += to.size();
    }
  if (byte_fallback_)
    if (const auto byte = byte_of_token(token)) return std::string(1, char(*byte));
  if (byte_level_)
    if (auto bytes = bytes_of_characters(token)) return *bytes;
  return token;
}

void Decoder::strip_start(std::string& text) const {
  size_t at = 0;
  for (int64_t i = 0; i < strip_count_ && text.compare(at, strip_.size(), strip_) == 0; ++i)
    at += strip_.size();
  text.erase(0, at);
}

}  // namespace reverie
