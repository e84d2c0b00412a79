#pragma once
/// Tokens that a published model's vocabulary gets, and the rows that they begin with.

#include <optional>
#include <string>

#include "core/config.h"
#include "layers/pretrained/load.h"
#include "layers/transformer_shape.h"

namespace reverie {

struct PretrainedFiles;

/// The options of models that begin with a published one's weights.
struct NewTokenOptions {
  std::optional<int64_t> vocab_size;
  int64_t new_tokens = 0;
  std::optional<int64_t> copied_token;

  /// Names them among a model's own fields.
  void describe(Fields&);
  /// As load_pretrained() takes them; nullopt: the vocabulary stays the file's. UserError where it
  /// is to be that of data, and there are none.
  std::optional<NewTokens> asked() const;
};

/// How many rows a table of `rows` rows has with these tokens. UserError, naming `path`, unless
/// every token before the new ones has a row, and the copied one is among them.
int64_t rows_with(const NewTokens& tokens, int64_t rows, const std::string& path);

/// Gives the embedding table, and an output projection of its own, the rows of the new tokens.
/// `shape` is the model's with them. Tables of another number of rows than `rows` stay as they are,
/// and the model says what is wrong with them.
void add_new_rows(PretrainedFiles& files, const TransformerShape& shape, const NewTokens& tokens,
                  int64_t rows);

}  // namespace reverie
