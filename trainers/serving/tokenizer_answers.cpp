#include "trainers/serving/tokenizer_answers.h"

#include <nlohmann/json.hpp>

#include "core/config.h"
#include "core/error.h"
#include "trainers/serving/completion_answer.h"
#include "trainers/serving/request_object.h"

namespace reverie {
namespace {

struct TokenizeKeys final : Fieldset {
  std::string model, prompt;
  bool add_special_tokens = true, return_token_strs = false;
  void fields(Fields& f) override {
    f.text("model", model, {}, "one of the names of /v1/models");
    f.required();
    f.text("prompt", prompt, {}, "a text");
    f.boolean("add_special_tokens", add_special_tokens,
              "begin with the token that begins a text, where the model wants one");
    f.boolean("return_token_strs", return_token_strs, "also the text of each token");
  }
};

struct DetokenizeKeys final : Fieldset {
  std::string model;
  std::vector<int64_t> tokens;
  int64_t known = 0;
  void fields(Fields& f) override {
    f.text("model", model, {}, "one of the names of /v1/models");
    f.integers("tokens", tokens, {0, known - 1}, "token ids");
  }
};

void read_keys(std::string_view body, Fieldset& keys) {
  read_config(Config(request_object(body), "$", "the request"), keys);
}

Json special(const Tokenizer& tokenizer, std::optional<int32_t> token) {
  if (!token || *token >= tokenizer.vocabulary_size()) return nullptr;
  const std::string text = tokenizer.decode_continued(std::span(&*token, 1));
  try {
    if (!text.empty() && tokenizer.encode(text) == std::vector<int32_t>{*token}) return text;
  } catch (const UserError&) {  // its bytes are no text
  }
  return nullptr;
}

}  // namespace

Json tokenize(std::string_view body, const ServedModel& model) {
  TokenizeKeys keys;
  read_keys(body, keys);
  const Tokenizer& tokenizer = model.tokenizer();
  const std::vector<int32_t> tokens = keys.add_special_tokens
                                          ? tokenizer.encode_from_beginning(keys.prompt)
                                          : tokenizer.encode(keys.prompt);
  Json texts;
  if (keys.return_token_strs) {
    texts = Json::array();
    for (const int32_t& token : tokens)
      texts.push_back(token_text(tokenizer.decode_continued(std::span(&token, 1))));
  }
  return {{"count", tokens.size()},
          {"max_model_len", model.context()},
          {"tokens", tokens},
          {"token_strs", texts}};
}

Json detokenize(std::string_view body, const ServedModel& model) {
  DetokenizeKeys keys;
  keys.known = model.tokenizer().vocabulary_size();
  read_keys(body, keys);
  return {{"prompt",
           model.tokenizer().decode(std::vector<int32_t>(keys.tokens.begin(), keys.tokens.end()))}};
}

Json tokenizer_info(const ServedModel& model) {
  const Tokenizer& tokenizer = model.tokenizer();
  std::optional<int32_t> end = tokenizer.end_of_text();
  if (!model.ends().empty()) end = model.ends()[0];
  return {{"tokenizer_class", tokenizer.name()},
          {"bos_token", special(tokenizer, tokenizer.begin_of_text())},
          {"eos_token", special(tokenizer, end)},
          {"pad_token", nullptr},
          {"add_bos_token", tokenizer.adds_begin_of_text()},
          {"model_max_length", model.context()},
          {"chat_template", nullptr}};
}

}  // namespace reverie
