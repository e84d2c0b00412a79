#pragma once
/// Conversations as the texts that published chat models were trained on. A model's files hold its
/// template as a program (Jinja), which is not run here: the known ones are written out, and an
/// unknown one is refused.

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "datasets/tokenizers/tokenizer.h"

namespace reverie {

struct ChatMessage {
  std::string role;  ///< "system", "user" or "assistant"
  std::string content;
};

/// "chatml, gemma, ...".
std::string known_chat_templates();

/// The text of a conversation up to where the assistant's next message begins. The begin-of-text
/// token, with which some templates begin, is no part of it. White space (of ASCII) at the ends of a
/// message goes where the template says so. UserError for a name that is not known, a conversation
/// without messages, and roles that the template does not take.
std::string chat_text(const std::string& name, std::span<const ChatMessage> messages);

/// Its tokens, the begin-of-text token included where the template begins with it. UserError besides
/// where the tokenizer has no token for the template's marks, so that the model cannot know them.
std::vector<int32_t> chat_tokens(const std::string& name, std::span<const ChatMessage> messages,
                                 const Tokenizer& tokenizer);

/// The token behind an assistant's message, where the template has one.
std::optional<int32_t> chat_end(const std::string& name, const Tokenizer& tokenizer);

/// The template in a model's files: chat_template.jinja or tokenizer_config.json of a Hugging Face
/// directory, "tokenizer.chat_template" of a .gguf file. Of several the one named "default".
std::optional<std::string> published_chat_template(const std::string& model);

/// The name of the template that lies with `model`. UserError where there is none, or where it is
/// none of the known ones, which are named.
std::string chat_template_of(const std::string& model);

/// What the known templates' texts are told by: XXH3-128 without white space at the ends, line
/// breaks as such or as "\n".
std::string chat_template_hash(const std::string& text);

}  // namespace reverie
