#include "trainers/cli/prompt_file.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"

namespace reverie {
namespace {

[[noreturn]] void refuse(const std::string& where, const std::string& what) {
  throw DataError(
      fmt::format("{}: {}; wanted a text, {{\"prompt\": text}} or {{\"messages\": [{{\"role\", "
                  "\"content\"}}]}}",
                  where, what));
}

std::vector<ChatMessage> messages_of(const Json& list, const std::string& where) {
  if (!list.is_array() || list.empty()) refuse(where, "\"messages\" is no list, or an empty one");
  std::vector<ChatMessage> messages;
  for (const Json& one : list) {
    const auto text = [&](const char* key) {
      if (!one.is_object() || !one.contains(key) || !one.at(key).is_string())
        refuse(where, fmt::format("a message has no text \"{}\"", key));
      return one.at(key).get<std::string>();
    };
    messages.push_back({text("role"), text("content")});
  }
  return messages;
}

FilePrompt prompt_of(std::string_view line, const std::string& where) {
  const Json value = parse_json_or_discard(line);
  if (value.is_discarded()) refuse(where, "no JSON");
  if (value.is_string()) return {value.get<std::string>(), {}, where};
  if (!value.is_object()) refuse(where, fmt::format("it is {}", value.type_name()));
  const bool prompt = value.contains("prompt"), messages = value.contains("messages");
  if (prompt == messages)
    refuse(where,
           prompt ? "both \"prompt\" and \"messages\"" : "no \"prompt\" and no \"messages\"");
  if (messages) return {"", messages_of(value.at("messages"), where), where};
  if (!value.at("prompt").is_string()) refuse(where, "\"prompt\" is no text");
  return {value.at("prompt").get<std::string>(), {}, where};
}

}  // namespace

std::vector<FilePrompt> read_prompt_file(const std::string& file) {
  const std::string all = read_file(file);
  const bool json = file.ends_with(".jsonl");
  std::vector<FilePrompt> prompts;
  int64_t number = 0;
  for (size_t begin = 0; begin < all.size();) {
    const size_t end = std::min(all.find('\n', begin), all.size());
    std::string_view line(all.data() + begin, end - begin);
    begin = end + 1;
    ++number;
    if (line.ends_with('\r')) line.remove_suffix(1);
    if (line.find_first_not_of(" \t") == line.npos) continue;
    const std::string where = fmt::format("{}, line {}", file, number);
    prompts.push_back(json ? prompt_of(line, where) : FilePrompt{std::string(line), {}, where});
  }
  require(!prompts.empty(), "{} holds no prompt: wanted one a line{}", file,
          json ? "" : ", or JSON objects in a .jsonl file");
  return prompts;
}

}  // namespace reverie
