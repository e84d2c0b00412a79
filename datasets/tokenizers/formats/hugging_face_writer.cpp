#include "datasets/tokenizers/formats/hugging_face_writer.h"

#include <algorithm>
#include <unordered_map>

#include "core/error.h"
#include "core/json.h"
#include "datasets/tokenizers/formats/split_pieces.h"
#include "datasets/tokenizers/formats/written_spec.h"
#include "datasets/tokenizers/pipeline/decoder.h"
#include "datasets/tokenizers/pipeline/normalizer.h"
#include "datasets/tokenizers/subword_tokenizer.h"
#include "datasets/utf8.h"

namespace reverie {
namespace {

// A member at the end, without the search for an equal key that would take the square of a
// vocabulary's size.
void append(Json& object, const std::string& key, Json value) {
  object.get_ref<Json::object_t&>().emplace_back(key, std::move(value));
}

// {token: id}, ids in rising order. UserError for two tokens of one text.
Json vocabulary(const std::vector<std::string>& tokens) {
  std::unordered_map<std::string_view, size_t> seen;
  Json out = Json::object();
  for (size_t id = 0; id < tokens.size(); ++id) {
    if (tokens[id].empty()) continue;  // no such token
    const auto [other, is_new] = seen.emplace(tokens[id], id);
    require(is_new,
            "the tokens {} and {} are both '{}', but tokenizer.json has one id for each "
            "text",
            other->second, id, tokens[id]);
    append(out, tokens[id], int64_t(id));
  }
  return out;
}

Json bpe_model(const SubwordSpec& spec) {
  Json merges = Json::array();
  for (const Merge& merge : spec.merges) {
    const std::string &left = spec.tokens[size_t(merge.left)],
                      &right = spec.tokens[size_t(merge.right)],
                      &result = spec.tokens[size_t(merge.result)];
    require(left + right == result,
            "the merge of '{}' and '{}' gives '{}': tokenizer.json joins the two", left, right,
            result);
    merges.push_back({left, right});
  }
  return {{"type", "BPE"},
          {"dropout", nullptr},
          {"unk_token", spec.unknown ? Json(spec.tokens[size_t(*spec.unknown)]) : Json()},
          {"continuing_subword_prefix", nullptr},
          {"end_of_word_suffix", nullptr},
          {"fuse_unk", spec.fuse_unknown},
          {"byte_fallback", spec.byte_fallback},
          {"ignore_merges", spec.ignore_merges},
          {"vocab", vocabulary(spec.tokens)},
          {"merges", std::move(merges)}};
}

Json added_tokens(const SubwordSpec& spec) {
  std::vector<AddedToken> added = spec.added;
  std::stable_sort(added.begin(), added.end(),
                   [](const AddedToken& a, const AddedToken& b) { return a.id < b.id; });
  const Normalizer normalizer(JsonAt(spec.normalizer, "normalizer"));
  Json out = Json::array();
  for (const AddedToken& token : added) {
    const std::string& content = spec.tokens[size_t(token.id)];
    std::string found = content;
    if (token.in_normalized) normalizer.apply(found);
    require(found == token.text,
            "the token {}, '{}', is matched as '{}' in a text, but transformers would match "
            "'{}': tokenizer.json cannot say it",
            token.id, content, token.text, found);
    out.push_back({{"id", token.id},
                   {"content", content},
                   {"single_word", false},
                   {"lstrip", token.takes_left},
                   {"rstrip", token.takes_right},
                   {"normalized", token.in_normalized},
                   {"special", token.special}});
  }
  return out;
}

// Puts the token before every text.
Json begins_with(const std::string& token, int32_t id) {
  const Json special = {{"SpecialToken", {{"id", token}, {"type_id", 0}}}};
  const auto text = [](const char* which, int type) {
    return Json{{"Sequence", {{"id", which}, {"type_id", type}}}};
  };
  return {{"type", "TemplateProcessing"},
          {"single", {special, text("A", 0)}},
          {"pair", {special, text("A", 0), text("B", 1)}},
          {"special_tokens", {{token, {{"id", token}, {"ids", {id}}, {"tokens", {token}}}}}}};
}

Json file_of(Json model, Json added, Json normalizer, Json pre_tokenizer, Json post_processor,
             Json decoder) {
  return {{"version", "1.0"},
          {"truncation", nullptr},
          {"padding", nullptr},
          {"added_tokens", std::move(added)},
          {"normalizer", std::move(normalizer)},
          {"pre_tokenizer", std::move(pre_tokenizer)},
          {"post_processor", std::move(post_processor)},
          {"decoder", std::move(decoder)},
          {"model", std::move(model)}};
}

Json subword_file(const SubwordSpec& spec) {
  Json begin = nullptr;
  if (spec.adds_begin_of_text) {
    const int32_t id = spec.begin_of_text.value();
    begin = begins_with(spec.tokens[size_t(id)], id);
  }
  return file_of(bpe_model(spec), added_tokens(spec), completed(spec.normalizer),
                 completed(spec.pre_tokenizer), begin, completed(spec.decoder));
}

// One token a match of `pattern`; a match that is no token is refused by the library.
Json whole_words_file(const std::vector<std::string>& words, const char* pattern) {
  const Json model = {
      {"type", "WordLevel"}, {"vocab", vocabulary(words)}, {"unk_token", "<no such token>"}};
  require(std::find(words.begin(), words.end(), model.at("unk_token").get<std::string>()) ==
              words.end(),
          "the vocabulary has the word {}", model.at("unk_token").get<std::string>());
  return file_of(model, Json::array(), nullptr,
                 {{"type", "Split"},
                  {"pattern", {{"Regex", pattern}}},
                  {"behavior", "Isolated"},
                  {"invert", false}},
                 nullptr, {{"type", "Fuse"}});
}

std::vector<std::string> characters_of(const Json& definition) {
  std::vector<std::string> words;
  for (const auto character : definition.at("characters").get<std::vector<uint32_t>>()) {
    words.emplace_back();
    append_code_point(words.back(), character);
  }
  return words;
}

// `spec` null: a vocabulary without special tokens.
Json config_of(const SubwordSpec* spec, const Json& file, int64_t longest) {
  Json out = {{"tokenizer_class", "PreTrainedTokenizerFast"},
              {"model_max_length", longest},
              {"clean_up_tokenization_spaces", false},
              {"add_prefix_space", false},
              {"add_bos_token", spec && spec->adds_begin_of_text},
              {"add_eos_token", false},
              {"bos_token", nullptr},
              {"eos_token", nullptr},
              {"unk_token", nullptr},
              {"pad_token", nullptr}};
  if (const Json& split = file.at("pre_tokenizer"); split.is_object())
    out["add_prefix_space"] = split.value("add_prefix_space", false);
  if (!spec) return out;
  const auto name = [&](const char* key, const std::optional<int32_t>& id) {
    if (id && is_read_in_text(*spec, *id)) out[key] = spec->tokens[size_t(*id)];
  };
  name("bos_token", spec->begin_of_text);
  name("eos_token", spec->end_of_text);
  Json added = Json::object();
  for (Json token : file.at("added_tokens")) {
    const std::string id = std::to_string(token.at("id").get<int32_t>());
    token.erase("id");
    append(added, id, std::move(token));
  }
  out["added_tokens_decoder"] = std::move(added);
  return out;
}

std::string shown(const std::string& text) {
  return json_text_replacing(Json(text)).substr(0, 200);
}

// What the file says is read back, and must give every text the ids that `tokenizer` gives it.
void require_same_ids(const Tokenizer& tokenizer, const SubwordSpec& written,
                      const std::vector<std::string>& texts) {
  const SubwordTokenizer again(written, "tokenizer.json");
  for (const std::string& text : texts)
    require(again.encode(text) == tokenizer.encode(text),
            "tokenizer.json cannot say what this vocabulary's scores say: the text {} would have "
            "other tokens",
            shown(text));
}

// Its own pieces alone, side by side, and beside names of tokens that no text is.
std::vector<std::string> texts_with_pieces(const SubwordSpec& spec) {
  constexpr std::string_view kSpace = "\xE2\x96\x81";
  std::vector<std::string> pieces, texts;
  for (const AddedToken& token : spec.added) {
    if (!token.in_normalized) continue;
    pieces.push_back(token.text);
    for (size_t at; (at = pieces.back().find(kSpace)) != std::string::npos;)
      pieces.back().replace(at, kSpace.size(), " ");
  }
  std::vector<std::string> others = {"", " ", "a", " the ", "<0x41>", "<0x0A> "};
  if (spec.unknown) others.push_back(spec.tokens[size_t(*spec.unknown)]);
  for (const std::string& piece : pieces) {
    for (const std::string& other : others) {
      texts.push_back(piece + other);
      texts.push_back(other + piece + other);
      texts.push_back(piece + other + piece);
    }
    texts.push_back(piece + pieces.front() + piece + pieces.back());
  }
  return texts;
}

}  // namespace

HuggingFaceTokenizer hugging_face_tokenizer(const Tokenizer& tokenizer, int64_t longest,
                                            const std::vector<std::string>& texts) {
  HuggingFaceTokenizer out;
  std::optional<SubwordSpec> spec = spec_of(tokenizer);
  if (spec) {
    const bool scored = !spec->scores.empty();
    *spec = with_listed_merges(std::move(*spec));
    if (needs_split_pieces(*spec)) {
      const std::vector<std::string> more = texts_with_pieces(*spec);
      *spec = with_split_pieces(std::move(*spec));
      require_same_ids(tokenizer, *spec, more);
    }
    if (scored) require_same_ids(tokenizer, *spec, texts);
    out.tokenizer = subword_file(*spec);
  } else {
    const Json definition = tokenizer.definition();
    const std::string type = definition.at("type").get<std::string>();
    // The words of WordTokenizer: a run of letters, digits and characters beyond ASCII, with the
    // space before it.
    if (type == "char")
      out.tokenizer = whole_words_file(characters_of(definition), R"([\s\S])");
    else if (type == "word")
      out.tokenizer = whole_words_file(definition.at("words").get<std::vector<std::string>>(),
                                       R"( ?(?:[A-Za-z0-9]|[^\x00-\x7F])+|[\s\S])");
    else
      throw UserError(
          fmt::format("a tokenizer of type '{}' has no form in Hugging Face's files", type));
  }
  out.config = config_of(spec ? &*spec : nullptr, out.tokenizer, longest);
  out.special = Json::object();
  for (const char* key : {"bos_token", "eos_token"})
    if (!out.config.at(key).is_null()) out.special[key] = out.config.at(key);
  return out;
}

}  // namespace reverie
