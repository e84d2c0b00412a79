#include "datasets/data_options.h"

namespace reverie {

void DataOptions::fields(Fields& f) {
  f.text("name", name, {},
         "the text's name, looked up in $REVERIE_DATA and the cache; empty: tinyshakespeare");
  f.path("path", path,
         "a text file; a directory or pattern (*) of text files, each a document; a .jsonl file, "
         "each line a document (field); any of these as .gz or .zst; or a directory of token files "
         "(prepared, nanoGPT's or llm.c's)");
  f.text("field", field, {}, "of .jsonl files: what holds each line's text");
  f.text(
      "tokenizer", tokenizer, {"char", "word", "gpt2", "bpe", "pretrained"},
      "char: one token a character; word: one a word, of the text's own; gpt2: GPT-2's byte "
      "pairs; bpe: byte pairs learnt from the text (train_bpe); pretrained: a pretrained model's");
  f.integer("train_bpe", train_bpe, {0, int64_t(1) << 24},
            "bpe: how many tokens the vocabulary has, 257 or more");
  f.path(
      "tokenizer_files", tokenizer_files,
      "gpt2: the folder of encoder.json and vocab.bpe, empty: as data; pretrained: a .gguf file, "
      "a Hugging Face directory or a tokenizer's own file");
  f.text("document_separator", document_separator, {},
         "what stands between documents, e.g. \"\\n\" (exactly one line break) or "
         "\"<|endoftext|>\": each is encoded by itself and marked as in its model's training; "
         "empty: the text is one document");
  f.text("document_token", document_token, {},
         "the token after each document, as text; empty: the tokenizer's begin-of-text token "
         "before each where its model was trained so, else its end-of-text token after each");
  f.object("examples", examples, "a text of questions, reasoning steps and answers");
  f.number("validation_fraction", validation_fraction, {0.0, 0.5},
           "the part of the characters (or examples), at the end, held out");
  f.path("prepared_directory", prepared_directory,
         "where token files are kept; empty: data/<name>-<tokenizer>-<hash of what they are made "
         "from>");
  f.integer("vocabulary_size", vocabulary_size, {0, (int64_t(1) << 31) - 1},
            "of .bin files that do not say; 0: as the file says");
  f.boolean("special_tokens", special_tokens,
            "read <|endoftext|> in the text as GPT-2's end-of-text token");
  f.boolean("verify", verify,
            "compare every byte of the token files with their checksums on opening");
}

}  // namespace reverie
