#include "trainers/serving/completion_answer.h"

#include <algorithm>
#include <chrono>
#include <random>

#include "core/error.h"
#include "datasets/utf8.h"

namespace reverie {
namespace {

Json no_logprobs() {
  return {{"tokens", Json::array()},
          {"token_logprobs", Json::array()},
          {"top_logprobs", Json::array()},
          {"text_offset", Json::array()}};
}

bool is_utf8(const std::string& bytes) {
  for (size_t at = 0; at < bytes.size();) {
    const CodePoint point = decode_code_point(bytes, at);
    if (point.bytes == 0) return false;
    at += size_t(point.bytes);
  }
  return true;
}

// Characters that begin in these bytes.
int64_t characters_in(const std::string& bytes) {
  return std::count_if(bytes.begin(), bytes.end(),
                       [](char c) { return (uint8_t(c) & 0xC0) != 0x80; });
}

// The likeliest tokens by their text, and the token itself. Different tokens may have one text: the
// likelier counts.
Json likeliest_by_text(const TokenScore& score, const Tokenizer& tokenizer) {
  Json out = Json::object();
  const auto put = [&](int32_t token, double value) {
    const std::string text = token_text(tokenizer.decode_continued(std::span(&token, 1)));
    if (!out.contains(text) || out[text].get<double>() < value) out[text] = value;
  };
  // A model may have more rows than its tokenizer has tokens.
  for (const auto& [token, value] : score.likeliest)
    if (token < tokenizer.vocabulary_size()) put(token, value);
  put(score.token, score.log_probability);
  return out;
}

void append(Json& logprobs, const std::string& bytes, int64_t offset, const TokenScore* score,
            const Tokenizer& tokenizer) {
  logprobs["tokens"].push_back(token_text(bytes));
  logprobs["token_logprobs"].push_back(score ? Json(score->log_probability) : Json());
  logprobs["top_logprobs"].push_back(score ? likeliest_by_text(*score, tokenizer) : Json());
  logprobs["text_offset"].push_back(offset);
}

}  // namespace

std::string token_text(const std::string& bytes) {
  if (is_utf8(bytes)) return bytes;
  std::string out = "bytes:";
  for (const char byte : bytes) out += fmt::format("\\x{:02x}", uint8_t(byte));
  return out;
}

Json verdict_beside(const ServedName& name, const ServedModel& model) {
  Json beside = {{"label", name.verdict.label()},
                 {"verdict", name.verdict.line()},
                 {"latents", name.latents ? model.latent_rows() : 0}};
  if (name.latents && model.latents_every() > 0) beside["latents_every"] = model.latents_every();
  return beside;
}

CompletionAnswer::CompletionAnswer(const CompletionRequest& request, const ServedModel& model)
    : request_(request), model_(model) {
  std::random_device random;
  id_ = fmt::format("cmpl-{:08x}{:08x}", random(), random());
  created_ = std::chrono::duration_cast<std::chrono::seconds>(
                 std::chrono::system_clock::now().time_since_epoch())
                 .count();
  for (int64_t i = 0; i < request.texts(); ++i) {
    choices_.emplace_back();
    if (request.likeliest) choices_.back().logprobs = no_logprobs();
  }
}

// In front of a text's first piece.
void CompletionAnswer::put_prompt(const Piece& piece, Choice& choice, Json& logprobs) const {
  choice.begun = true;
  if (!request_.echo) return;
  const Prompt& prompt = request_.prompts[size_t(piece.text_number / request_.samples)];
  const Tokenizer& tokenizer = model_.tokenizer();
  if (request_.likeliest)
    for (size_t i = 0; i < prompt.tokens.size(); ++i) {
      const auto token = std::span(prompt.tokens).subspan(i, 1);
      const bool in_text = int64_t(i) >= prompt.added;
      const std::string bytes =
          int64_t(i) <= prompt.added ? tokenizer.decode(token) : tokenizer.decode_continued(token);
      append(logprobs, bytes, choice.characters, i > 0 ? &piece.prompt_scores.at(i - 1) : nullptr,
             tokenizer);
      if (in_text) choice.characters += characters_in(bytes);
    }
  choice.characters = characters_in(prompt.text);
}

Json CompletionAnswer::part(const Piece& piece, Choice& choice) const {
  Json logprobs = request_.likeliest ? no_logprobs() : Json();
  std::string text;
  if (!choice.begun) {
    put_prompt(piece, choice, logprobs);
    if (request_.echo) text = request_.prompts[size_t(piece.text_number / request_.samples)].text;
  }
  if (request_.likeliest)
    for (size_t i = 0; i < piece.tokens.size(); ++i) {
      const std::string bytes =
          model_.tokenizer().decode_continued(std::span(piece.tokens).subspan(i, 1));
      append(logprobs, bytes, choice.characters, &piece.scores.at(i), model_.tokenizer());
      choice.characters += characters_in(bytes);
    }
  text += piece.text;
  return {{"index", piece.text_number},
          {"text", text},
          {"logprobs", logprobs},
          {"finish_reason", piece.finish.empty() ? Json() : Json(piece.finish)}};
}

void CompletionAnswer::add(const Piece& piece) {
  Choice& choice = choices_.at(size_t(piece.text_number));
  const Json more = part(piece, choice);
  choice.text += more["text"].get_ref<const std::string&>();
  if (!piece.finish.empty()) choice.finish = piece.finish;
  if (request_.likeliest)
    for (auto& [key, list] : choice.logprobs.items())
      for (const Json& value : more["logprobs"][key]) list.push_back(value);
  drawn_ += int64_t(piece.tokens.size());
}

Json CompletionAnswer::frame() const {
  Json beside = verdict_beside(*model_.find(request_.model), model_);
  beside["seed"] = request_.seed;
  if (request_.latents) {
    beside["latents_after"] = Json::array();
    for (const Prompt& prompt : request_.prompts)
      beside["latents_after"].push_back(prompt.latents_after);
  }
  return {{"id", id_},
          {"object", "text_completion"},
          {"created", created_},
          {"model", request_.model},
          {"choices", Json::array()},
          {"reverie", beside}};
}

Json CompletionAnswer::whole() const {
  Json out = frame();
  for (size_t i = 0; i < choices_.size(); ++i)
    out["choices"].push_back(Json{{"index", i},
                                  {"text", choices_[i].text},
                                  {"logprobs", choices_[i].logprobs},
                                  {"finish_reason", choices_[i].finish}});
  int64_t read = 0;
  for (const Prompt& prompt : request_.prompts) read += int64_t(prompt.tokens.size());
  out["usage"] = {
      {"prompt_tokens", read}, {"completion_tokens", drawn_}, {"total_tokens", read + drawn_}};
  return out;
}

Json CompletionAnswer::chunk(const Piece& piece) {
  Json out = frame();
  out["choices"].push_back(part(piece, choices_.at(size_t(piece.text_number))));
  return out;
}

}  // namespace reverie
