#pragma once
/// Prompts that a file holds.

#include <string>
#include <vector>

#include "datasets/chat_template.h"

namespace reverie {

/// One prompt: a text, or a conversation.
struct FilePrompt {
  std::string text;
  std::vector<ChatMessage> messages;  ///< empty: it is a text
  std::string where;                  ///< "prompts.txt, line 3"
};

/// A .jsonl file holds on each line a text, {"prompt": text} or {"messages": [{"role", "content"}]};
/// other keys are passed over. Any other file holds a prompt a line. Empty lines are passed over; a
/// line may end in "\r\n". UserError where there is no prompt, DataError with the line where one is
/// not so.
std::vector<FilePrompt> read_prompt_file(const std::string& file);

}  // namespace reverie
