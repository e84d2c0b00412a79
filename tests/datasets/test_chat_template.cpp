// Conversations as published templates write them, and how a model's own template is known.

#include "datasets/chat_template.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <nlohmann/json.hpp>
#include <set>

#include "core/error.h"
#include "core/files.h"
#include "core/gguf_writer.h"
#include "core/json.h"
#include "datasets/tokenizers/char_tokenizer.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"
#include "support/tests_directory.h"

namespace reverie {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;

const Json& chat_golden() {
  static const Json all =
      parse_json(read_file(testing::test_directory() + "/golden/chat_templates.json"));
  return all;
}

std::vector<ChatMessage> messages_in(const Json& list) {
  std::vector<ChatMessage> out;
  for (const Json& one : list)
    out.push_back({one.at("role").get<std::string>(), one.at("content").get<std::string>()});
  return out;
}

TEST(ChatTemplate, TextsAreThoseOfTheRenderedTemplates) {
  const Json& conversations = chat_golden().at("conversations");
  int64_t refused = 0;
  std::set<std::string> names;
  for (const Json& one : chat_golden().at("templates")) {
    const std::string name = one.at("name");
    names.insert(name);
    for (size_t i = 0; i < conversations.size(); ++i) {
      const auto messages = messages_in(conversations[i]);
      const Json& wanted = one.at("texts")[i];
      SCOPED_TRACE(fmt::format("{}, conversation {}", one.at("model").get<std::string>(), i));
      if (wanted.is_null()) {
        ++refused;
        EXPECT_THROW(chat_text(name, messages), UserError);
      } else {
        EXPECT_EQ(chat_text(name, messages), wanted.get<std::string>());
      }
    }
  }
  EXPECT_GT(refused, 5);
  for (const std::string& name : names) EXPECT_THAT(known_chat_templates(), HasSubstr(name));
  EXPECT_EQ(std::ranges::count(known_chat_templates(), ',') + 1, int64_t(names.size()))
      << "each template has a golden text";
}

class ModelFolder : public ::testing::Test {
 protected:
  void write(const std::string& name, const std::string& text) const {
    write_file_atomically(folder_ / name, text);
  }
  testing::TemporaryDirectory folder_;
};

// Spells "\n" of Jinja's strings and white space at the end either way.
TEST_F(ModelFolder, AKnownTemplateIsFoundByItsText) {
  const std::string chatml =
      "{% for message in messages %}{{'<|im_start|>' + message['role'] + '\\n' + "
      "message['content'] + '<|im_end|>' + '\\n'}}{% endfor %}{% if add_generation_prompt %}{{ "
      "'<|im_start|>assistant\\n' }}{% endif %}";
  write("tokenizer_config.json", json_text(Json{{"chat_template", chatml}}));
  EXPECT_EQ(chat_template_of(folder_.path()), "chatml");
  std::string broken = chatml + "\n";
  for (size_t at = 0; (at = broken.find("\\n")) != std::string::npos;) broken.replace(at, 2, "\n");
  write("tokenizer_config.json", json_text(Json{{"chat_template",
                                                 {{{"name", "tools"}, {"template", "other"}},
                                                  {{"name", "default"}, {"template", broken}}}}}));
  EXPECT_EQ(chat_template_of(folder_.path()), "chatml");
  write("chat_template.jinja", "{{ messages }}");
  EXPECT_THAT(message_of<UserError>([&] { chat_template_of(folder_.path()); }),
              AllOf(HasSubstr(folder_.path()), HasSubstr("none of those known here"),
                    HasSubstr(chat_template_hash("{{ messages }}")), HasSubstr("{{ messages }}"),
                    HasSubstr("smollm2"), HasSubstr("--chat NAME")));
}

TEST_F(ModelFolder, AGgufFileCarriesItsTemplate) {
  GgufWriter writer;
  writer.text("general.architecture", "llama");
  writer.text("tokenizer.chat_template", "{{ messages }}");
  writer.save(folder_ / "model.gguf");
  EXPECT_EQ(published_chat_template(folder_ / "model.gguf"), "{{ messages }}");
  GgufWriter without;
  without.text("general.architecture", "llama");
  without.save(folder_ / "base.gguf");
  EXPECT_FALSE(published_chat_template(folder_ / "base.gguf"));
}

TEST_F(ModelFolder, AModelWithoutATemplateSaysSo) {
  EXPECT_FALSE(published_chat_template(folder_.path()));
  write("tokenizer_config.json", "{}");
  EXPECT_THAT(message_of<UserError>([&] { chat_template_of(folder_.path()); }),
              HasSubstr("comes without a chat template"));
  write("tokenizer_config.json", R"({"chat_template": 3})");
  EXPECT_THROW(published_chat_template(folder_.path()), DataError);
  EXPECT_FALSE(published_chat_template(folder_ / "model.bin"));
}

TEST(ChatTemplate, WhatItCannotWriteIsRefused) {
  EXPECT_THAT(message_of<UserError>([] { chat_text("alpaca", std::vector<ChatMessage>{}); }),
              AllOf(HasSubstr("no chat template \"alpaca\""), HasSubstr("chatml")));
  EXPECT_THROW(chat_text("chatml", std::vector<ChatMessage>{}), UserError);
  const std::vector<ChatMessage> tool = {{"tool", "4"}}, system = {{"system", "Be brief."}},
                                 user = {{"user", "hi"}};
  EXPECT_THAT(message_of<UserError>([&] { chat_text("chatml", tool); }),
              HasSubstr("the role \"tool\""));
  EXPECT_THROW(chat_text("gemma3", system), UserError);
  // Characters as tokens: the marks would be read as text.
  std::vector<uint32_t> characters = {'\n'};
  for (uint32_t c = 32; c < 127; ++c) characters.push_back(c);
  const CharTokenizer letters(characters);
  EXPECT_THAT(message_of<UserError>([&] { chat_tokens("chatml", user, letters); }),
              AllOf(HasSubstr("has no token \"<|im_start|>\""), HasSubstr("was not trained")));
}

}  // namespace
}  // namespace reverie
