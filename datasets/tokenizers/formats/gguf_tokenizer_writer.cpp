#include "datasets/tokenizers/formats/gguf_tokenizer_writer.h"

#include <algorithm>
#include <set>

#include "core/error.h"
#include "datasets/tokenizers/formats/pretrained_spec.h"
#include "datasets/tokenizers/formats/written_spec.h"
#include "datasets/tokenizers/pipeline/decoder.h"
#include "datasets/tokenizers/pipeline/pre_tokenizer.h"

namespace reverie {
namespace {

constexpr const char* kSpace = "\xE2\x96\x81";

[[noreturn]] void refuse(const std::string& what) {
  throw UserError(fmt::format(
      "a GGUF file cannot express {}: export for transformers (--export-hf), or the model alone "
      "(--without-tokenizer)",
      what));
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
  for (size_t at = text.find(from); at != std::string::npos; at = text.find(from, at + to.size()))
    text.replace(at, from.size(), to);
  return text;
}

// The tokens and their kinds, one for each of the model's rows.
struct Table {
  std::vector<std::string> tokens;
  std::vector<int32_t> kinds;
};

Table table_of(const SubwordSpec& spec, int64_t rows) {
  Table table;
  table.tokens = spec.tokens;
  table.kinds.assign(spec.tokens.size(), ScoredPieces::normal);
  table.tokens.resize(size_t(rows));
  table.kinds.resize(size_t(rows), ScoredPieces::unused);
  std::set<std::string_view> there(spec.tokens.begin(), spec.tokens.end());
  for (size_t id = 0; id < table.tokens.size(); ++id) {
    if (!table.tokens[id].empty()) continue;
    table.tokens[id] = fmt::format("[PAD{}]", id);
    table.kinds[id] = ScoredPieces::unused;
    if (there.contains(table.tokens[id]))
      refuse(fmt::format("the token {}, which the vocabulary lacks: its name '{}' is taken", id,
                         table.tokens[id]));
  }
  for (const AddedToken& token : spec.added) {
    if (token.takes_left || token.takes_right)
      refuse(fmt::format("the token '{}', which takes the white space beside it", token.text));
    if (token.text != spec.tokens[size_t(token.id)])
      refuse(fmt::format("the token '{}', which is matched as '{}'", spec.tokens[size_t(token.id)],
                         token.text));
    table.kinds[size_t(token.id)] =
        token.special ? ScoredPieces::control : ScoredPieces::user_defined;
  }
  return table;
}

void write_ends(GgufWriter& out, const SubwordSpec& spec) {
  if (!spec.end_of_text)
    refuse("a vocabulary without a token that ends a text (its reader would take one of its own)");
  out.integer("tokenizer.ggml.bos_token_id",
              uint32_t(spec.begin_of_text.value_or(*spec.end_of_text)));
  out.integer("tokenizer.ggml.eos_token_id", uint32_t(*spec.end_of_text));
  out.boolean("tokenizer.ggml.add_bos_token", spec.adds_begin_of_text);
  out.boolean("tokenizer.ggml.add_eos_token", false);
}

// Whatever the order of their keys.
bool same(const Json& a, const Json& b) {
  return nlohmann::json(a) == nlohmann::json(b);
}

// llama.cpp's name for how the text is split; "": it has none.
std::string split_name(const SubwordSpec& spec) {
  for (const char* name : {"gpt-2", "smollm", "llama-bpe", "qwen2"}) {
    const bool composes = std::string_view(name) == "qwen2";
    const Json normalizer = composes ? Json{{"type", "NFC"}} : Json();
    if (same(completed(spec.pre_tokenizer), completed(named_split(name))) &&
        same(spec.normalizer, normalizer) &&
        spec.ignore_merges == (std::string_view(name) == "llama-bpe"))
      return name;
  }
  return "";
}

void write_byte_level(GgufWriter& out, const SubwordSpec& spec, int64_t rows) {
  const std::string split = split_name(spec);
  if (split.empty()) refuse("this vocabulary's way of splitting text, which no name is known for");
  if (spec.byte_fallback || spec.unknown) refuse("an unknown token beside bytes");
  for (const AddedToken& token : spec.added)
    if (token.in_normalized && !spec.normalizer.is_null())
      refuse(fmt::format("the token '{}', which is matched in normalized text", token.text));
  const Table table = table_of(spec, rows);
  out.text("tokenizer.ggml.model", "gpt2");
  out.text("tokenizer.ggml.pre", split);
  out.texts("tokenizer.ggml.tokens", table.tokens);
  out.integers("tokenizer.ggml.token_type", table.kinds);
  std::vector<std::string> merges;
  for (const Merge& merge : spec.merges) {
    const std::string &left = spec.tokens[size_t(merge.left)],
                      &right = spec.tokens[size_t(merge.right)];
    if (left.find(' ') != std::string::npos || right.find(' ') != std::string::npos ||
        left + right != spec.tokens[size_t(merge.result)])
      refuse(fmt::format("the merge of '{}' and '{}'", left, right));
    merges.push_back(left + " " + right);
  }
  out.texts("tokenizer.ggml.merges", merges);
  write_ends(out, spec);
}

// Whether the normalizer puts a space before a text; nullopt: it does something else.
std::optional<bool> space_before_text(const SubwordSpec& spec) {
  for (const bool prefix : {false, true})
    for (const char* space : {kSpace, " "}) {
      ScoredPieces like;
      like.space = space;
      like.space_before_text = prefix;
      if (same(scored_spec(std::move(like), "").normalizer, spec.normalizer)) return prefix;
    }
  return std::nullopt;
}

void write_scored(GgufWriter& out, SubwordSpec spec, int64_t rows) {
  const std::optional<bool> prefix = space_before_text(spec);
  if (!prefix || !spec.pre_tokenizer.is_null()) refuse("this vocabulary's way of preparing text");
  // llama2.c's pieces have spaces.
  const bool plain_spaces = std::none_of(
      spec.tokens.begin(), spec.tokens.end(),
      [](const std::string& token) { return token.find(kSpace) != std::string::npos; });
  if (plain_spaces)
    for (std::string& token : spec.tokens) token = replaced(token, " ", kSpace);
  for (AddedToken& token : spec.added)
    if (plain_spaces) token.text = replaced(token.text, " ", kSpace);
  Table table = table_of(spec, rows);
  for (size_t id = 0; id < spec.tokens.size(); ++id) {
    int32_t& kind = table.kinds[id];
    // The spaces of user-defined pieces, and of no others, are spaces in the file.
    if (kind == ScoredPieces::user_defined)
      table.tokens[id] = replaced(table.tokens[id], kSpace, " ");
    if (kind != ScoredPieces::normal || spec.made_by_merging[id]) continue;
    kind = spec.unknown == int32_t(id)      ? ScoredPieces::unknown
           : byte_of_token(spec.tokens[id]) ? ScoredPieces::byte
                                            : ScoredPieces::control;
  }
  std::vector<float> scores = spec.scores;
  scores.resize(size_t(rows), 0);
  out.text("tokenizer.ggml.model", "llama");
  out.texts("tokenizer.ggml.tokens", table.tokens);
  out.numbers("tokenizer.ggml.scores", scores);
  out.integers("tokenizer.ggml.token_type", table.kinds);
  if (!spec.unknown) refuse("a vocabulary without an unknown token");
  out.integer("tokenizer.ggml.unknown_token_id", uint32_t(*spec.unknown));
  out.boolean("tokenizer.ggml.add_space_prefix", *prefix);
  write_ends(out, spec);
}

}  // namespace

void write_gguf_tokenizer(GgufWriter& out, const Tokenizer& tokenizer, int64_t rows) {
  const std::optional<SubwordSpec> spec = spec_of(tokenizer);
  if (!spec)
    refuse(fmt::format(
        "a tokenizer of type '{}' (where no token ends a text, readers take token 2 for it, and "
        "they have no name for this way of splitting)",
        tokenizer.name()));
  require(int64_t(spec->tokens.size()) <= rows,
          "the tokenizer has {} tokens, the model knows {}: they do not belong together",
          spec->tokens.size(), rows);
  if (!spec->scores.empty()) return write_scored(out, *spec, rows);
  const PreTokenizer split(JsonAt(spec->pre_tokenizer, "pre_tokenizer"));
  if (!split.byte_level()) refuse("merges of characters in the order of a list");
  write_byte_level(out, *spec, rows);
}

void write_no_gguf_tokenizer(GgufWriter& out) {
  out.text("tokenizer.ggml.model", "no_vocab");
}

}  // namespace reverie
