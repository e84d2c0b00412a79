#include "datasets/data_options.h"

#include "core/listed.h"
#include "datasets/problems/problem_generator.h"
#include "datasets/tasks/generated_task.h"

namespace reverie {

namespace {

constexpr const char* kPathDoc =
    "a text file; a directory or pattern (*) of text files, each a document; a .jsonl file, each "
    "line a document (field); any of these as .gz or .zst; or a directory of token files "
    "(prepared, nanoGPT's or llm.c's, also in shards)";
constexpr const char* kFieldDoc = "for .jsonl files: the key that holds each line's text";

}  // namespace

void DataOptions::fields(Fields& f) {
  f.text("name", name, {},
         "the text's name, searched in $REVERIE_DATA and the cache; empty: tinyshakespeare");
  f.path("path", path, kPathDoc);
  f.text("field", field, {}, kFieldDoc);
  f.text("tokenizer", tokenizer, {"char", "word", "gpt2", "bpe", "pretrained"},
         "char: one token for each character of the text; word: one for each word of the text; "
         "gpt2: GPT-2's byte pairs; bpe: byte pairs learnt from the text (train_bpe); pretrained: "
         "a pretrained model's tokens");
  f.integer("train_bpe", train_bpe, {0, int64_t(1) << 24},
            "for bpe: number of tokens in the vocabulary, 257 or more");
  text_fields(f);
  f.object("examples", examples, "a text of questions, reasoning steps and answers");
  f.component("generated", generated, TaskRegistry::instance(), true,
              "a task made from a seed instead of a text: documents whose answers lie windows "
              "behind what decides them");
  f.component(
      "problems", problems, ProblemRegistry::instance(), true,
      "questions, reasoning steps and answers, made from a seed or read from their own file, "
      "instead of a text; "
      "examples.stage and examples.thoughts say how they are written");
  f.text(
      "marks", marks, {"unnamed", "tokens"},
      "of examples and problems: unnamed, five ids behind the tokenizer's own; tokens, special "
      "tokens that are added to the vocabulary of a published model (tokenizer pretrained). "
      "Where the vocabulary has all five already, both use these. Records whose marks are tokens "
      "begin with the begin-of-text token if the tokenizer adds one to texts");
  token_fields(f);
  f.boolean("begin_windows", begin_windows,
            "every window of the text, of training and validation alike, begins with the "
            "tokenizer's begin-of-text token in place of the window's first token: for published "
            "models that were trained to see it at the beginning of what they read (Gemma)");
  describe_list(f, "mix", mix,
                "several texts of one tokenizer instead of one: each row of a batch is drawn from "
                "one of them, by weight; beside it, only name applies");
}

void DataOptions::text_fields(Fields& f) {
  f.path("tokenizer_files", tokenizer_files,
         "for gpt2: the folder of encoder.json and vocab.bpe (empty: searched like the data); for "
         "pretrained: a .gguf file, a Hugging Face directory or a tokenizer's own file");
  f.text("document_separator", document_separator, {},
         "the text between documents, e.g. \"\\n\" (exactly one line break) or "
         "\"<|endoftext|>\"; each document is encoded by itself and marked as in its model's "
         "training; empty: the text is one document");
  f.text("document_token", document_token, {},
         "the token put after each document, as text; empty: the tokenizer's begin-of-text token "
         "before each document if its model was trained so, else its end-of-text token after each");
}

void DataOptions::token_fields(Fields& f) {
  f.number("validation_fraction", validation_fraction, {0.0, 0.5},
           "share of the characters (or examples) that is held out, at the end");
  f.path("prepared_directory", prepared_directory,
         "directory of the token files; empty: data/<name>-<tokenizer>-<hash of text and options>");
  f.integer("vocabulary_size", vocabulary_size, {0, (int64_t(1) << 31) - 1},
            "vocabulary size for .bin files that do not name it; 0: the file's own");
  f.boolean("special_tokens", special_tokens,
            "read <|endoftext|> in the text as GPT-2's end-of-text token");
  f.boolean("verify", verify,
            "compare all bytes of the token files with their checksums when they are opened");
}

void MixEntry::fields(Fields& f) {
  f.number("weight", weight, {1e-9, 1e15},
           "share of the rows that are drawn from this text, in any unit: weights are divided by "
           "their sum");
  f.text("name", name, {}, "the text's label; empty: its own name");
  f.required().path("path", path, kPathDoc);
  f.text("field", field, {}, kFieldDoc);
  f.text("tokenizer", tokenizer, {"char", "word", "gpt2", "pretrained"},
         "of a text that is not prepared yet; all texts of a mix must have one vocabulary");
  text_fields(f);
  token_fields(f);
}

}  // namespace reverie
