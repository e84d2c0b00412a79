#pragma once
/// Writes a data set's token files.

#include <cstdint>
#include <functional>
#include <string>

#include "datasets/description.h"

namespace reverie {

/// Bytes of text encoded so far, and in all. Called with 0 first: rates are of encoding alone.
using PrepareProgress = std::function<void(int64_t done, int64_t total)>;

/// Makes, unless it is there already and made from the same text in the same way,
///   <directory>/{train.tok, validation.tok, reverie_tokenizer.json, dataset.json}
/// whole or not at all, and returns the description's directory. The text is mapped and encoded in
/// parallel pieces, so that it may be larger than memory. Many files, lines of .jsonl and compressed
/// files are laid out in one text beside the directory first. The first floor(characters * (1 -
/// validation_fraction)) characters are train.tok (as nanoGPT); where a tokenizer cannot encode
/// parts of words, the word around that cut is train.tok's as a whole. With a document_separator
/// every document is encoded by itself and gets its document_mark(), and train.tok holds those that
/// begin in that part; so are the documents of a directory, of a pattern and of .jsonl files.
/// Examples become records, see ExampleLayout. A "bpe" vocabulary is learnt from the part of
/// train.tok alone. A generated task has a test split and labels of its answers besides
/// (task_data.h), and its first documents as text. Nothing is made for a directory of token files;
/// of a mix, every entry is made, and "" returned. UserError when the directory holds something
/// else, such as data of another text, of other options or of another vocabulary; DataError when
/// the text is empty or not UTF-8.
std::string prepare_dataset(const DatasetDescription& description,
                            const PrepareProgress& progress = {});

}  // namespace reverie
