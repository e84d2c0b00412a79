// Requests as JSON: their options, and the errors of requests that are refused.

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "datasets/tokenizers/char_tokenizer.h"
#include "support/message_of.h"
#include "support/tiny_models.h"
#include "trainers/generation/stop_strings.h"
#include "trainers/serving/completion_answer.h"
#include "trainers/serving/completion_request.h"
#include "trainers/serving/tokenizer_answers.h"

namespace reverie {
namespace {

ServedModel& served() {
  static ServedModel model(testing::make_model(R"({"type":"gpt2",)" REVERIE_TINY "}"),
                           CharTokenizer::from_text("ABCDEFGHIJKL\n"));
  return model;
}

CompletionRequest parsed(const std::string& body, const RequestLimits& limits = {}) {
  return parse_completion_request(body, served(), limits);
}
std::string refused(const std::string& body, const RequestLimits& limits = {}) {
  return testing::message_of<UserError>([&] { parsed(body, limits); });
}

TEST(CompletionRequest, APromptIsATextIdsOrAListOfEither) {
  EXPECT_EQ(parsed(R"({"prompt": "ABC"})").prompts[0].tokens, (std::vector<int32_t>{1, 2, 3}));
  EXPECT_EQ(parsed(R"({"prompt": [1, 2, 3]})").prompts[0].text, "ABC");
  EXPECT_EQ(parsed(R"({"prompt": ["A", "BC"]})").prompts[1].tokens, (std::vector<int32_t>{2, 3}));
  EXPECT_EQ(parsed(R"({"prompt": [[1], [2, 3]]})").prompts[1].text, "BC");
}

TEST(CompletionRequest, TheApisDefaults) {
  const CompletionRequest request =
      parsed(R"({"prompt": "A", "logprobs": null, "stop": null, "suffix": null, "logit_bias": {},)"
             R"("presence_penalty": 0, "frequency_penalty": 0.0, "best_of": 1, "user": "me"})");
  EXPECT_EQ(request.model, "base");
  EXPECT_EQ(request.max_tokens, 16);
  EXPECT_EQ(request.samples, 1);
  EXPECT_EQ(request.choice.temperature, 1);
  EXPECT_EQ(request.choice.top_p, 1);
  EXPECT_FALSE(request.echo || request.stream || request.likeliest);
}

TEST(CompletionRequest, ReadsEveryKey) {
  const CompletionRequest request =
      parsed(R"({"model": "base", "prompt": "A", "max_tokens": 3, "temperature": 0, "top_p": 0.5,)"
             R"("top_k": 4, "min_p": 0.25, "repetition_penalty": 1.5, "ignore_eos": true, "n": 2,)"
             R"("stop": ["B", "CD"], "seed": 7, "echo": true, "logprobs": 5,)"
             R"("stream": true})");
  EXPECT_EQ(request.max_tokens, 3);
  EXPECT_EQ(request.choice.top_p, 0.5);
  EXPECT_EQ(request.choice.top_k, 4);
  EXPECT_EQ(request.choice.min_p, 0.25);
  EXPECT_EQ(request.choice.repetition_penalty, 1.5);
  EXPECT_TRUE(request.past_end);
  EXPECT_EQ(request.samples, 2);
  EXPECT_EQ(request.seed, 7u);
  EXPECT_EQ(request.stops, (std::vector<std::string>{"B", "CD"}));
  EXPECT_EQ(request.likeliest, 5);
  EXPECT_TRUE(request.echo && request.stream && request.scores_prompt());
}

TEST(CompletionRequest, SaysWhyItIsRefused) {
  const std::vector<std::pair<std::string, std::string>> cases = {
      {"{", "the request"},
      {"[]", "wanted a JSON object"},
      {R"({"prompt": "A", "prompt": "B"})", "prompt"},
      {"{}", "prompt is missing"},
      {R"({"prompt": []})", "an empty list"},
      {R"({"prompt": ""})", "the prompt is empty"},
      {R"({"prompt": [[]]})", "prompt[0] is empty"},
      {R"({"prompt": {"a": 1}})", "wanted a text"},
      {R"({"prompt": ["A", 3]})", "prompt[1] is number, wanted a text"},
      {R"({"prompt": [3, "A"]})", "prompt[1] is \"A\", wanted an integer from 0 to 12"},
      {R"({"prompt": [13]})", "prompt[0] is 13, wanted an integer from 0 to 12"},
      {R"({"prompt": [-1]})", "prompt[0] is -1"},
      {R"({"prompt": [18446744073709551615]})", "prompt[0] is 18446744073709551615"},
      {R"({"prompt": [1.5]})", "prompt[0] is 1.5"},
      {R"({"prompt": "a"})", "'a' (U+0061)"},
      {R"({"prompt": "A", "max_tokens": -1})", "max_tokens"},
      {R"({"prompt": "A", "max_tokens": "3"})", "max_tokens"},
      {R"({"prompt": "A", "max_tokens": 19})", "together 20, but the model's context is 19"},
      {R"({"prompt": "ABCABCABCABCABCABCABCABC"})", "24 tokens"},
      {R"({"prompt": "A", "temperature": -0.5})", "temperature"},
      {R"({"prompt": "A", "top_p": 0})", "top_p"},
      {R"({"prompt": "A", "top_p": 1.5})", "top_p"},
      {R"({"prompt": "A", "min_p": 1.5})", "min_p"},
      {R"({"prompt": "A", "repetition_penalty": 0})", "repetition_penalty"},
      {R"({"prompt": "A", "n": 0})", "n"},
      {R"({"prompt": "A", "n": 100})", "n"},
      {R"({"prompt": "A", "stop": [""]})", "a stop string is \"\""},
      {R"({"prompt": "A", "stop": 3})", "a stop string is 3"},
      {R"({"prompt": "A", "seed": 1.5})", "seed is 1.5"},
      {R"({"prompt": "A", "logprobs": true})", "logprobs is true"},
      {R"({"prompt": "A", "logprobs": 21})", "logprobs is 21, wanted an integer from 0 to 20"},
      {R"({"prompt": "A", "echo": 1})", "echo"},
      {R"({"prompt": "A", "max_token": 3})", "max_tokens"},  // the nearest key
      {R"({"prompt": "A", "presence_penalty": 1})", "presence_penalty is 1"},
      {R"({"prompt": "A", "logit_bias": {"3": 1}})", "logit_bias"},
      {R"({"prompt": "A", "suffix": "B"})", "suffix"},
      {R"({"prompt": "A", "best_of": 3})", "best_of is 3 and n is 1"},
      {R"({"prompt": "A", "latents_after": 1})", "base has no latents"},
      {R"({"prompt": "A", "model": 3})", "model is 3"},
      {R"({"prompt": "A", "model": "gpt-4"})", "there is no model \"gpt-4\"; served: base"},
  };
  for (const auto& [body, reason] : cases)
    EXPECT_NE(refused(body).find(reason), std::string::npos) << body << "\n" << refused(body);
  std::string many = "{\"prompt\": \"A\"";
  for (int i = 0; i < 200000; ++i) many += fmt::format(", \"k{}\": 1", i);
  EXPECT_NE(refused(many + "}").find("200001 keys, wanted 1000 or fewer"), std::string::npos);
  EXPECT_NE(refused(R"({"prompt": "ABC"})", {.prompt_tokens = 2}).find("--max-prompt"),
            std::string::npos);
  EXPECT_NE(refused(R"({"prompt": ["A", "B"]})", {.prompts = 1}).find("2 prompts"),
            std::string::npos);
}

TEST(CompletionAnswer, EchoedScoresStandBesideTheirTokens) {
  const CompletionRequest request =
      parsed(R"({"prompt": "ABC", "max_tokens": 1, "echo": true, "logprobs": 1, "seed": 5})");
  CompletionAnswer answer(request, served());
  answer.add({.text_number = 0, .prompt_scores = {{2, -0.5, {{2, -0.5}}}, {3, -3, {{1, -0.25}}}}});
  answer.add({.text_number = 0,
              .text = "D",
              .tokens = {4},
              .scores = {{4, -1, {{4, -1}}}},
              .finish = "length"});
  const Json whole = answer.whole(), choice = whole["choices"][0];
  EXPECT_EQ(choice["text"], "ABCD");
  EXPECT_EQ(choice["finish_reason"], "length");
  const Json logprobs = choice["logprobs"];
  EXPECT_EQ(logprobs["tokens"], parse_json(R"(["A", "B", "C", "D"])"));
  EXPECT_EQ(logprobs["token_logprobs"], parse_json("[null, -0.5, -3.0, -1.0]"));
  EXPECT_EQ(logprobs["top_logprobs"],
            parse_json(R"([null, {"B": -0.5}, {"A": -0.25, "C": -3.0}, {"D": -1.0}])"));
  EXPECT_EQ(logprobs["text_offset"], parse_json("[0, 1, 2, 3]"));
  EXPECT_EQ(whole["usage"],
            parse_json(R"({"prompt_tokens": 3, "completion_tokens": 1, "total_tokens": 4})"));
  EXPECT_EQ(whole["reverie"]["label"], "");
  EXPECT_EQ(whole["reverie"]["verdict"], "unknown: nothing was probed");
  EXPECT_EQ(whole["reverie"]["seed"], 5);
}

TEST(CompletionAnswer, TokensThatAreNoTextAreBytes) {
  EXPECT_EQ(token_text("é"), "é");
  EXPECT_EQ(token_text("\xe2\x80"), "bytes:\\xe2\\x80");
}

TEST(StopStrings, HoldBackWhatMayBecomeOne) {
  StopStrings stops({"END", "\n\n"});
  EXPECT_EQ(stops.next("one E"), "one ");
  EXPECT_EQ(stops.next("N"), "");
  EXPECT_EQ(stops.next("!\n"), "EN!");
  EXPECT_EQ(stops.next("two\n"), "\ntwo");
  EXPECT_FALSE(stops.stopped());
  EXPECT_EQ(stops.next("\nthree END"), "");
  EXPECT_TRUE(stops.stopped());
  EXPECT_EQ(stops.next("more"), "");
  StopStrings ended({"END"});
  EXPECT_EQ(ended.next("the E"), "the ");
  EXPECT_EQ(ended.finish(), "E");
}

TEST(TokenizerAnswers, HaveVllmsForm) {
  const Json tokens = tokenize(R"({"prompt": "AB", "add_special_tokens": false})", served());
  EXPECT_EQ(tokens, parse_json(R"({"count": 2, "max_model_len": 19, "tokens": [1, 2],)"
                               R"("token_strs": null})"));
  EXPECT_EQ(detokenize(R"({"tokens": [1, 2, 0]})", served()), parse_json(R"({"prompt": "AB\n"})"));
  const Json info = tokenizer_info(served());
  EXPECT_EQ(info["tokenizer_class"], "char");
  EXPECT_TRUE(info["eos_token"].is_null());
  EXPECT_THROW(tokenize("{}", served()), UserError);
  EXPECT_THROW(tokenize(R"({"messages": []})", served()), UserError);
  EXPECT_THROW(detokenize(R"({"tokens": [13]})", served()), UserError);
  EXPECT_THROW(detokenize(R"({"tokens": "AB"})", served()), UserError);
}

}  // namespace
}  // namespace reverie
