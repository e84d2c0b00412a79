#include "datasets/tokenizers/formats/split_pieces.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "datasets/tokenizers/pipeline/decoder.h"
#include "datasets/tokenizers/pipeline/normalizer.h"
#include "datasets/tokenizers/subword_tokenizer.h"

namespace reverie {
namespace {

[[noreturn]] void refuse(const std::string& what) {
  throw UserError(fmt::format(
      "tokenizer.json cannot say what this vocabulary does: {}. A GGUF file (--export-gguf) keeps "
      "SentencePiece's own rules",
      what));
}

std::string escaped(std::string_view text) {
  std::string out;
  for (const char c : text) {
    if (std::string_view("\\^$.|?*+()[]{}-").find(c) != std::string_view::npos) out += '\\';
    out += c;
  }
  return out;
}

Json split(const std::string& regex, const char* behavior) {
  return {{"type", "Split"},
          {"pattern", {{"Regex", regex}}},
          {"behavior", behavior},
          {"invert", false}};
}

bool is_any_in(const std::vector<std::string_view>& texts, std::string_view part) {
  return std::any_of(texts.begin(), texts.end(),
                     [&](std::string_view text) { return text.find(part) != text.npos; });
}

// A cut inside `name`, so that it never is a word of its own: between two characters that no piece
// has side by side, so that nothing merges across it.
Json cut_in_name(const std::string& name, const std::vector<std::string_view>& pieces) {
  for (size_t at = 1; at < name.size(); ++at) {
    if ((uint8_t(name[at]) & 0x80u) || (uint8_t(name[at - 1]) & 0x80u)) continue;
    if (is_any_in(pieces, std::string_view(name).substr(at - 1, 2))) continue;
    const std::string before = at > 1 ? "(?<=" + escaped(name.substr(0, at - 1)) + ")" : "";
    return split(before + escaped(name.substr(at - 1, 1)) + "(?=" + escaped(name.substr(at)) + ")",
                 "MergedWithPrevious");
  }
  refuse(fmt::format("a text that is '{}' would be that token", name));
}

Json cut_in_names_of_bytes(const std::vector<std::string_view>& pieces) {
  if (!is_any_in(pieces, "<0")) return split("<(?=0x[0-9A-Fa-f]{2}>)", "MergedWithPrevious");
  if (!is_any_in(pieces, "0x")) return split("(?<=<)0(?=x[0-9A-Fa-f]{2}>)", "MergedWithPrevious");
  refuse("a text that is '<0x41>' would be that byte, since there are pieces with '<0' and '0x'");
}

// Every piece that merges make must be made of its own text: a word is then that piece with merges
// and without.
void require_made_by_merging(const SubwordSpec& spec, const std::set<int32_t>& others) {
  SubwordSpec alone = spec;
  alone.normalizer = alone.pre_tokenizer = nullptr;
  alone.ignore_merges = alone.adds_begin_of_text = false;
  alone.added.clear();
  const SubwordTokenizer merging(alone, "tokenizer.json");
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    if (spec.tokens[id].empty() || others.contains(int32_t(id))) continue;
    if (merging.encode(spec.tokens[id]) != std::vector<int32_t>{int32_t(id)})
      refuse(fmt::format("merges never make the piece '{}' of its own text", spec.tokens[id]));
  }
}

}  // namespace

bool needs_split_pieces(const SubwordSpec& spec) {
  const Normalizer normalizer(JsonAt(spec.normalizer, "normalizer"));
  return std::any_of(spec.added.begin(), spec.added.end(), [&](const AddedToken& token) {
    std::string found = spec.tokens[size_t(token.id)];
    if (token.in_normalized) normalizer.apply(found);
    return token.in_normalized && found != token.text;
  });
}

SubwordSpec with_split_pieces(SubwordSpec spec) {
  std::vector<std::string> cut_out;
  std::set<int32_t> others;  // tokens that merges do not make
  for (const AddedToken& token : spec.added) {
    others.insert(token.id);
    if (!token.in_normalized) continue;
    if (token.special || token.takes_left || token.takes_right ||
        token.text != spec.tokens[size_t(token.id)])
      refuse(fmt::format("the token '{}' is looked for in normalized text",
                         spec.tokens[size_t(token.id)]));
    cut_out.push_back(token.text);
  }
  if (!spec.pre_tokenizer.is_null() || spec.ignore_merges)
    refuse("its own pieces meet a pre-tokenizer");
  std::vector<size_t> names;  // of tokens that no text is
  if (spec.unknown && !others.contains(*spec.unknown)) names.push_back(size_t(*spec.unknown));
  for (size_t id = 0; spec.byte_fallback && id < spec.tokens.size(); ++id)
    if (byte_of_token(spec.tokens[id])) others.insert(int32_t(id));
  for (const size_t id : names) others.insert(int32_t(id));

  std::vector<std::string_view> pieces;
  for (size_t id = 0; id < spec.tokens.size(); ++id)
    if (!others.contains(int32_t(id))) pieces.emplace_back(spec.tokens[id]);
  require_made_by_merging(spec, others);

  // The longest of those that begin at a place is the first to match.
  std::stable_sort(cut_out.begin(), cut_out.end(),
                   [](const auto& a, const auto& b) { return a.size() > b.size(); });
  std::string regex;
  for (const std::string& text : cut_out) regex += (regex.empty() ? "" : "|") + escaped(text);
  Json steps = Json::array({split(regex, "Isolated")});
  if (spec.byte_fallback) steps.push_back(cut_in_names_of_bytes(pieces));
  for (const size_t id : names) steps.push_back(cut_in_name(spec.tokens[id], pieces));
  for (const std::string& text : cut_out) {
    const bool has_name = std::any_of(names.begin(), names.end(), [&](size_t id) {
      return text.find(spec.tokens[id]) != std::string::npos;
    });
    if (has_name || text.find("<0x") != std::string::npos)
      refuse(fmt::format("its own piece '{}' contains the name of another token", text));
  }
  spec.pre_tokenizer = {{"type", "Sequence"}, {"pretokenizers", std::move(steps)}};
  spec.ignore_merges = true;
  std::erase_if(spec.added, [](const AddedToken& token) { return token.in_normalized; });
  return spec;
}

}  // namespace reverie
