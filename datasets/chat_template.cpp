#include "datasets/chat_template.h"

#include <algorithm>
#include <array>
#include <filesystem>

#include "core/error.h"
#include "core/files.h"
#include "core/gguf.h"
#include "datasets/tokenizers/formats/tokenizer_config.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

// What stands around a message.
struct Turn {
  std::string_view open, close;
};

enum class SystemMessage {
  own_turn,
  before_first,  // in front of the first user's message, with an empty line between
  none           // refused
};

struct Style {
  std::string_view name;
  Turn system, user, assistant;
  std::string_view next;  // opens the assistant's next message
  SystemMessage system_message = SystemMessage::own_turn;
  std::string_view default_system = "";  // where the conversation has none
  bool begins = false;                   // with the begin-of-text token
  bool trims = false;
  bool alternates = false;  // user, assistant, user, ..
  /// Marks that are one token each in the vocabulary of a model that knows them.
  std::array<std::string_view, 2> marks = {};
  std::string_view end = "";  // behind an assistant's message
};

constexpr Turn kImSystem{"<|im_start|>system\n", "<|im_end|>\n"},
    kImUser{"<|im_start|>user\n", "<|im_end|>\n"},
    kImAssistant{"<|im_start|>assistant\n", "<|im_end|>\n"},
    kGemmaUser{"<start_of_turn>user\n", "<end_of_turn>\n"},
    kGemmaModel{"<start_of_turn>model\n", "<end_of_turn>\n"};

Style chatml(std::string_view name, std::string_view default_system) {
  return {.name = name,
          .system = kImSystem,
          .user = kImUser,
          .assistant = kImAssistant,
          .next = kImAssistant.open,
          .default_system = default_system,
          .marks = {"<|im_start|>", "<|im_end|>"},
          .end = "<|im_end|>"};
}

Style gemma(std::string_view name, SystemMessage system_message) {
  return {.name = name,
          .system = {},
          .user = kGemmaUser,
          .assistant = kGemmaModel,
          .next = kGemmaModel.open,
          .system_message = system_message,
          .begins = true,
          .trims = true,
          .alternates = true,
          .marks = {"<start_of_turn>", "<end_of_turn>"},
          .end = "<end_of_turn>"};
}

const std::vector<Style>& styles() {
  static const std::vector<Style> all = {
      chatml("chatml", ""),
      chatml("smollm2", "You are a helpful AI assistant named SmolLM, trained by Hugging Face"),
      chatml("qwen2", "You are a helpful assistant."),
      chatml("qwen2.5", "You are Qwen, created by Alibaba Cloud. You are a helpful assistant."),
      gemma("gemma", SystemMessage::none),
      gemma("gemma3", SystemMessage::before_first),
      {.name = "llama3",
       .system = {"<|start_header_id|>system<|end_header_id|>\n\n", "<|eot_id|>"},
       .user = {"<|start_header_id|>user<|end_header_id|>\n\n", "<|eot_id|>"},
       .assistant = {"<|start_header_id|>assistant<|end_header_id|>\n\n", "<|eot_id|>"},
       .next = "<|start_header_id|>assistant<|end_header_id|>\n\n",
       .begins = true,
       .trims = true,
       .marks = {"<|start_header_id|>", "<|eot_id|>"},
       .end = "<|eot_id|>"},
      {.name = "mistral",
       .system = {},
       .user = {"[INST] ", " [/INST]"},
       .assistant = {"", "</s>"},
       .next = "",
       .system_message = SystemMessage::none,
       .begins = true,
       .alternates = true,
       .marks = {"</s>", ""},
       .end = "</s>"},
      {.name = "zephyr",
       .system = {"<|system|>\n", "</s>\n"},
       .user = {"<|user|>\n", "</s>\n"},
       .assistant = {"<|assistant|>\n", "</s>\n"},
       .next = "<|assistant|>\n",
       .marks = {"</s>", ""},
       .end = "</s>"},
  };
  return all;
}

// Published texts of these templates by chat_template_hash(); tests/golden/chat_templates.json says
// of which models.
struct Published {
  std::string_view hash, name;
};
constexpr Published kPublished[] = {
    {"f0a6a8278439fdb056191e205a440263", "chatml"},
    {"6c84c2da794fd4c1d9c620dcaf86f38d", "gemma3"},
    {"8b30bb763d138e692c2e86beabccd2a4", "gemma"},
    {"cc03b87e7e7a7d10fdd35ed9cae1163e", "gemma"},
    {"8f20b9eda669ce10b97891b7adc1beb8", "llama3"},
    {"09facc0e4aa943189799ad6e2dea0594", "llama3"},
    {"f395fc5daa794129a5d004210ebce758", "mistral"},
    {"e3c699cb55b0c32df9a29021c9d093ad", "qwen2.5"},
    {"e580c2da83415028d5d943bd0bd9082f", "qwen2"},
    {"98f63cc3d421d28f99ab995e9629dacd", "smollm2"},
    {"5ae4edc1a6c08aa61db34e9fc60441d8", "zephyr"},
};

const Style& style_named(const std::string& name) {
  for (const Style& style : styles())
    if (style.name == name) return style;
  throw UserError(fmt::format("there is no chat template \"{}\" here; known are {}", name,
                              known_chat_templates()));
}

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view white = " \t\n\r\f\v";
  const size_t first = text.find_first_not_of(white);
  if (first == text.npos) return {};
  return text.substr(first, text.find_last_not_of(white) + 1 - first);
}

// The file that holds tokenizer_config.json's templates: a text, or a list of them with names.
std::optional<std::string> in_tokenizer_config(const std::string& file) {
  if (!fs::exists(file)) return std::nullopt;
  const nlohmann::json config = parse_plain_json(file);
  if (!config.is_object()) return std::nullopt;
  const auto found = config.find("chat_template");
  if (found == config.end() || found->is_null()) return std::nullopt;
  if (found->is_string()) return found->get<std::string>();
  if (found->is_array())
    for (const auto& one : *found)
      if (one.is_object() && one.value("name", "") == "default" && one.contains("template") &&
          one.at("template").is_string())
        return one.at("template").get<std::string>();
  throw DataError(
      fmt::format("{}: \"chat_template\" is {}, wanted a text, or a list of objects of which one "
                  "has the name \"default\" and a template",
                  file, found->type_name()));
}

// Nothing where `text` is not one token.
std::optional<int32_t> token_of(std::string_view text, const Tokenizer& tokenizer) {
  try {
    const std::vector<int32_t> tokens = tokenizer.encode(text);
    if (tokens.size() == 1 && tokenizer.decode_continued(tokens) == text) return tokens[0];
  } catch (const UserError&) {  // a character that the tokenizer does not know
  }
  return std::nullopt;
}

int32_t require_one_token(const Style& style, std::string_view mark, const Tokenizer& tokenizer) {
  const std::optional<int32_t> token = token_of(mark, tokenizer);
  require(token.has_value(),
          "the tokenizer ({}) has no token \"{}\", a mark of the chat template \"{}\": this model "
          "was not trained on such conversations",
          tokenizer.name(), mark, style.name);
  return *token;
}

}  // namespace

std::string known_chat_templates() {
  std::string names;
  for (const Style& style : styles())
    names += (names.empty() ? "" : ", ") + std::string(style.name);
  return names;
}

std::string chat_text(const std::string& name, std::span<const ChatMessage> messages) {
  const Style& style = style_named(name);
  require(!messages.empty(), "a conversation needs at least one message");
  std::string text, before_first;
  const auto add = [&](const Turn& turn, std::string_view content) {
    text += turn.open;
    text += std::exchange(before_first, "");
    text += style.trims ? trimmed(content) : content;
    text += turn.close;
  };
  if (messages[0].role == "system" && style.system_message != SystemMessage::own_turn) {
    require(style.system_message == SystemMessage::before_first,
            "the chat template \"{}\" takes no system message: put it into the user's", name);
    before_first = messages[0].content + "\n\n";
    messages = messages.subspan(1);
    require(!messages.empty(), "a conversation needs at least one message behind the system's");
  } else if (messages[0].role != "system" && !style.default_system.empty()) {
    add(style.system, style.default_system);
  }
  for (size_t i = 0; i < messages.size(); ++i) {
    const ChatMessage& message = messages[i];
    const bool system = message.role == "system", user = message.role == "user";
    require(system || user || message.role == "assistant",
            "message {} has the role \"{}\", wanted system, user or assistant", i + 1,
            message.role);
    require(!style.alternates || (!system && user == (i % 2 == 0)),
            "message {} is the {}'s, but the chat template \"{}\" wants user and assistant to take "
            "turns, the user first",
            i + 1, message.role, name);
    add(system ? style.system : user ? style.user : style.assistant, message.content);
  }
  return text + std::string(style.next);
}

std::vector<int32_t> chat_tokens(const std::string& name, std::span<const ChatMessage> messages,
                                 const Tokenizer& tokenizer) {
  const Style& style = style_named(name);
  for (const std::string_view mark : style.marks)
    if (!mark.empty()) require_one_token(style, mark, tokenizer);
  std::vector<int32_t> tokens = tokenizer.encode(chat_text(name, messages));
  if (!style.begins) return tokens;
  require(tokenizer.begin_of_text().has_value(),
          "the chat template \"{}\" begins with the begin-of-text token, and this tokenizer ({}) "
          "has none",
          name, tokenizer.name());
  tokens.insert(tokens.begin(), *tokenizer.begin_of_text());
  return tokens;
}

std::optional<int32_t> chat_end(const std::string& name, const Tokenizer& tokenizer) {
  const Style& style = style_named(name);
  if (style.end.empty()) return std::nullopt;
  return require_one_token(style, style.end, tokenizer);
}

std::optional<std::string> published_chat_template(const std::string& model) {
  if (!fs::is_directory(model)) {
    if (fs::path(model).extension() != ".gguf") return std::nullopt;
    const GgufFile file = read_gguf(model);
    constexpr const char* key = "tokenizer.chat_template";
    if (!file.find_value(key)) return std::nullopt;
    return file.text(key);
  }
  const auto in = [&](const char* name) { return (fs::path(model) / name).string(); };
  if (const std::string file = in("chat_template.jinja"); fs::exists(file)) return read_file(file);
  return in_tokenizer_config(in("tokenizer_config.json"));
}

std::string chat_template_hash(const std::string& text) {
  std::string plain(trimmed(text));
  for (size_t at = 0; (at = plain.find("\\n", at)) != std::string::npos;)
    plain.replace(at, 2, "\n");
  return hash_bytes(plain.data(), plain.size());
}

std::string chat_template_of(const std::string& model) {
  const std::optional<std::string> text = published_chat_template(model);
  require(text.has_value(),
          "{} comes without a chat template: name one (--chat NAME; known are {}), or write the "
          "prompt as it is to be read (--prompt)",
          model, known_chat_templates());
  const std::string hash = chat_template_hash(*text);
  for (const Published& known : kPublished)
    if (known.hash == hash) return std::string(known.name);
  throw UserError(
      fmt::format("the chat template of {} is none of those known here ({}); its hash is {}, and "
                  "it begins: {}\nIf one of them gives the same text, name it (--chat NAME); or "
                  "write the prompt as it is to be read (--prompt)",
                  model, known_chat_templates(), hash, text->substr(0, 200)));
}

}  // namespace reverie
