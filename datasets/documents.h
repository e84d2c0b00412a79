#pragma once
/// Documents of a text: what stands between them in the file, and between their tokens.

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "datasets/tokenizers/tokenizer.h"

namespace reverie {

/// `text` without spaces, tabs and line ends at its ends.
std::string_view without_outer_space(std::string_view text);

/// The documents of `text`, in order, without white space at their ends; those of white space alone
/// are left out. A separator of line breaks stands wherever exactly so many follow one another
/// ("\n": a new line, but not the empty lines between paragraphs); any other stands wherever its
/// text does. A line break is "\n" or "\r\n", in the text and in the separator. UserError for an
/// empty separator.
std::vector<std::string_view> split_documents(std::string_view text, std::string_view separator);

/// The token that marks where documents begin or end among others, as their model saw it in
/// training.
struct DocumentMark {
  int32_t token = 0;
  bool begins = true;  ///< it is a document's first token; else its last
};
/// The end of every document is the one token that `token` is as text ("<|endoftext|>"), where that
/// is not empty; else begin_of_text() where the model was trained to see it before every text, else
/// end_of_text(). UserError when the tokenizer has no such token.
DocumentMark document_mark(const Tokenizer& tokenizer, const std::string& token);

}  // namespace reverie
