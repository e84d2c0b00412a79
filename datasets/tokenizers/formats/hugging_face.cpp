#include <nlohmann/json.hpp>
#include <unordered_map>

#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "datasets/tokenizers/formats/pretrained_spec.h"
#include "datasets/tokenizers/formats/tokenizer_config.h"
#include "datasets/tokenizers/pipeline/normalizer.h"

namespace reverie {

namespace {

using PlainJson = nlohmann::json;

class HuggingFaceReader {
 public:
  HuggingFaceReader(const std::string& file, const std::string& folder)
      : file_(file), root_(parse_plain_json(file)) {
    if (!root_.is_object()) throw DataError(fmt::format("{} is not a JSON object", file));
    spec_.name = "bpe";
    for (auto [name, target] :
         {std::pair("normalizer", &spec_.normalizer),
          std::pair("pre_tokenizer", &spec_.pre_tokenizer), std::pair("decoder", &spec_.decoder)})
      if (root_.contains(name)) *target = Json(root_[name]);
    read_model();
    read_added_tokens();
    read_post_processor();
    if (!folder.empty()) read_config(folder);
  }
  SubwordSpec take() { return std::move(spec_); }

 private:
  // A small part of the file, with its place.
  JsonAt part(const char* name) {
    parts_.push_back(std::make_unique<Json>(root_.contains(name) ? Json(root_[name]) : Json()));
    return JsonAt(*parts_.back(), fmt::format("{}: {}", file_, name));
  }
  [[noreturn]] void fail(const std::string& path, const std::string& what) const {
    throw DataError(fmt::format("{}: {} {}", file_, path, what));
  }

  void read_model() {
    if (!root_.contains("model") || !root_["model"].is_object()) fail("model", "is no object");
    PlainJson& model = root_["model"];
    PlainJson vocabulary = take_member(model, "vocab"), merges = take_member(model, "merges");
    const Json rest(model);
    const JsonAt at(rest, file_ + ": model");
    if (const std::string type = at.text_or("type", "BPE"); type != "BPE")
      at.at("type").unsupported("BPE");
    if (const auto dropout = at.find("dropout"); dropout && dropout->value() != 0)
      dropout->unsupported("null");
    for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"})
      if (!at.text_or(affix, "").empty()) at.at(affix).unsupported("null");
    spec_.byte_fallback = at.boolean_or("byte_fallback", false);
    spec_.ignore_merges = at.boolean_or("ignore_merges", false);
    spec_.fuse_unknown = at.boolean_or("fuse_unk", false);

    if (!vocabulary.is_object()) fail("model.vocab", "is no object");
    added_ = root_.contains("added_tokens") ? root_["added_tokens"] : PlainJson::array();
    if (!added_.is_array()) fail("added_tokens", "is no array");
    // Holes between ids are usual, but what is allocated must be paid for by entries.
    most_ids_ = 2 * (vocabulary.size() + added_.size()) + 4096;
    for (const auto& [token, id] : vocabulary.items()) {
      const int32_t number = id_of(id, fmt::format("model.vocab[\"{}\"]", token));
      place(number, token, "model.vocab");
      ids_.emplace(token, number);
    }
    if (const auto unknown = at.find("unk_token")) {
      const auto found = ids_.find(unknown->text());
      if (found == ids_.end()) unknown->unsupported("a token of model.vocab");
      spec_.unknown = found->second;
    }
    read_merges(merges);
  }

  static PlainJson take_member(PlainJson& object, const char* name) {
    PlainJson taken;
    if (const auto found = object.find(name); found != object.end()) {
      taken = std::move(*found);
      object.erase(found);
    }
    return taken;
  }

  int32_t id_of(const PlainJson& id, const std::string& path) const {
    if (!id.is_number_integer() || id.get<int64_t>() < 0 || id.get<uint64_t>() >= most_ids_)
      fail(path, fmt::format("is {}; wanted an id below {}, twice the number of tokens",
                             id.is_structured() ? "no number" : json_text(id), most_ids_));
    return id.get<int32_t>();
  }

  void place(int32_t id, const std::string& token, const std::string& path) {
    if (size_t(id) >= spec_.tokens.size()) spec_.tokens.resize(size_t(id) + 1);
    std::string& there = spec_.tokens[size_t(id)];
    if (!there.empty() && there != token)
      fail(path, fmt::format("gives the id {} to '{}' and to '{}'", id, there, token));
    there = token;
  }

  void read_merges(const PlainJson& merges) {
    if (!merges.is_array()) fail("model.merges", "is no array");
    std::string left, right;
    for (size_t i = 0; i < merges.size(); ++i) {
      const PlainJson& merge = merges[i];
      const auto malformed = [&] {
        fail(fmt::format("model.merges[{}]", i), "is no pair of tokens: wanted \"a b\" or [a, b]");
      };
      if (merge.is_string()) {
        const std::string text = merge.get<std::string>();
        const size_t space = text.find(' ');
        if (space == std::string::npos || text.find(' ', space + 1) != std::string::npos)
          malformed();
        left = text.substr(0, space);
        right = text.substr(space + 1);
      } else {
        if (!merge.is_array() || merge.size() != 2 || !merge[0].is_string() ||
            !merge[1].is_string())
          malformed();
        left = merge[0].get<std::string>();
        right = merge[1].get<std::string>();
      }
      const auto token_of = [&](const std::string& token) {
        const auto found = ids_.find(token);
        if (found == ids_.end())
          fail(fmt::format("model.merges[{}]", i),
               fmt::format("names '{}', which model.vocab does not have", token));
        return found->second;
      };
      spec_.merges.push_back({token_of(left), token_of(right), token_of(left + right)});
    }
  }

  void read_added_tokens() {
    const Normalizer normalizer(JsonAt(spec_.normalizer, file_ + ": normalizer"));
    const Json added(added_);
    for (const JsonAt& token : JsonAt(added, file_ + ": added_tokens").items()) {
      const std::string content = token.at("content").text();
      const int32_t id = id_of(token.at("id").value(), token.path() + ".id");
      if (content.empty()) token.at("content").fail("is empty");
      if (token.boolean_or("single_word", false)) token.at("single_word").unsupported("false");
      if (size_t(id) < spec_.tokens.size() && !spec_.tokens[size_t(id)].empty())
        spec_.tokens[size_t(id)] = content;  // as the library has it
      else
        place(id, content, "added_tokens");
      added_ids_[content] = id;
      AddedToken read{.id = id,
                      .text = content,
                      .special = token.boolean_or("special", false),
                      .in_normalized = token.boolean_or("normalized", true),
                      .takes_left = token.boolean_or("lstrip", false),
                      .takes_right = token.boolean_or("rstrip", false)};
      if (read.in_normalized) normalizer.apply(read.text);
      if (!read.text.empty()) spec_.added.push_back(std::move(read));
    }
  }

  // Only for whether it puts a token before a text.
  void read_post_processor() {
    const JsonAt processor = part("post_processor");
    if (processor.is_null()) return;
    std::vector<JsonAt> all{processor};
    if (processor.at("type").text() == "Sequence") all = processor.at("processors").items();
    for (const JsonAt& one : all) {
      const std::string type = one.at("type").text();
      if (type == "ByteLevel") continue;  // about offsets, which are not kept
      if (type != "TemplateProcessing")
        one.at("type").unsupported("TemplateProcessing, ByteLevel or a Sequence of these");
      const std::vector<JsonAt> single = one.at("single").items();
      if (single.empty()) continue;
      if (single.back().find("SpecialToken") && single.size() > 1) warn_of_closed_texts(file_);
      if (const auto token = single.front().find("SpecialToken")) {
        const JsonAt name = token->at("id");
        const auto ids = one.at("special_tokens").at(name.text()).at("ids").items();
        if (ids.size() != 1) name.fail("stands for several tokens, which is not supported");
        spec_.begin_of_text = id_of(ids[0].value(), ids[0].path());
        spec_.adds_begin_of_text = true;
      }
    }
  }

  void read_config(const std::string& folder) {
    const TokenizerConfig config = read_tokenizer_config(folder);
    const auto id_at = [&](const std::optional<NamedToken>& token) -> std::optional<int32_t> {
      if (!token) return std::nullopt;
      for (const auto* table : {&added_ids_, &ids_})
        if (const auto found = table->find(token->text); found != table->end())
          return found->second;
      throw DataError(
          fmt::format("{} is {}, which is not supported; wanted a token of the vocabulary",
                      token->path, json_text(Json(token->text))));
    };
    if (const auto id = id_at(config.begin); id && !spec_.begin_of_text) spec_.begin_of_text = id;
    spec_.end_of_text = id_at(config.end);
    if (!spec_.adds_begin_of_text)
      spec_.adds_begin_of_text = spec_.begin_of_text && config.adds_begin.value_or(false);
    else if (!config.adds_begin.value_or(true))
      log_warning(
          "{} puts a begin-of-text token before every text, though \"add_bos_token\" is false in "
          "tokenizer_config.json: as in transformers 5, the former counts",
          file_);
    if (config.adds_end) warn_of_closed_texts(config.file);
  }

  std::string file_;
  PlainJson root_, added_;
  SubwordSpec spec_;
  size_t most_ids_ = 0;
  std::unordered_map<std::string, int32_t> ids_, added_ids_;
  std::vector<std::unique_ptr<Json>> parts_;
};

}  // namespace

SubwordSpec read_hugging_face(const std::string& file, const std::string& folder) {
  return HuggingFaceReader(file, folder).take();
}

}  // namespace reverie
