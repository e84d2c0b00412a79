#include "layers/pretrained/new_tokens.h"

#include <algorithm>
#include <vector>

#include "core/error.h"
#include "layers/pretrained/formats.h"

namespace reverie {
namespace {

// The mean of the first `count` rows of a table f32 [rows, columns], summed in f64.
std::vector<float> mean_of_rows(const Tensor& table, int64_t count) {
  const int64_t columns = table.size(1);
  std::vector<double> sum(static_cast<size_t>(columns));
  const float* at = table.data<float>();
  for (int64_t row = 0; row < count; ++row)
    for (double& s : sum) s += double(*at++);
  std::vector<float> mean;
  for (const double s : sum) mean.push_back(float(s / double(count)));
  return mean;
}

// The stored table, f32, with `rows` rows of which the new tokens' begin as they are asked to.
Tensor with_new_rows(const Tensor& stored, const NewTokens& tokens, int64_t rows) {
  const int64_t first = tokens.end - tokens.count, columns = stored.size(1);
  Tensor table = Tensor::empty({rows, columns}, DType::f32);
  table.slice(0, 0, stored.size(0)).copy_from(stored);
  std::vector<float> row;
  if (tokens.copied) {
    const float* known = table.data<float>() + *tokens.copied * columns;
    row.assign(known, known + columns);
  } else {
    row = mean_of_rows(table, first);
  }
  float* out = table.mutable_data<float>();
  for (int64_t id = first; id < tokens.end; ++id)
    std::copy(row.begin(), row.end(), out + id * columns);
  return table;
}

}  // namespace

void NewTokenOptions::describe(Fields& f) {
  f.integer_or_auto("vocab_size", vocab_size, {0, (int64_t(1) << 31) - 1},
                    "number of tokens that are used, new ones included; 0: as many as the data "
                    "have; auto: the model's own");
  f.integer("new_tokens", new_tokens, {0, 1 << 20},
            "the last so many of vocab_size are new to the model: they get rows of their own, or "
            "the model's spare ones, which begin anew");
  f.integer_or_auto("copied_token", copied_token, kNonNegative,
                    "rows of new tokens begin as this token's; auto: as the mean of the rows of "
                    "all tokens before them");
  f.rule(new_tokens == 0 || vocab_size.has_value(),
         fmt::format("new_tokens is {}, and vocab_size is auto: wanted 0 (the data's vocabulary), "
                     "or the number of tokens with the new ones",
                     new_tokens));
  f.rule(new_tokens > 0 || !copied_token,
         "copied_token is given, and there are no new_tokens whose rows could begin as its own");
}

std::optional<NewTokens> NewTokenOptions::asked() const {
  if (!vocab_size) return std::nullopt;
  require(*vocab_size > 0,
          "$.model.vocab_size is 0, which takes the vocabulary of the data, and there are none: "
          "give the number of tokens, or auto");
  return NewTokens{*vocab_size, new_tokens, copied_token};
}

int64_t rows_with(const NewTokens& tokens, int64_t rows, const std::string& path) {
  const int64_t first = tokens.end - tokens.count;
  require(first >= 1 && first <= rows,
          "$.model.vocab_size is {}, of which {} are new ($.model.new_tokens), and {} has rows for "
          "{} tokens: wanted {}",
          tokens.end, tokens.count, path, rows,
          first < 1
              ? "fewer new tokens"
              : fmt::format("at least {} new tokens, or a smaller vocabulary", tokens.end - rows));
  require(!tokens.copied || *tokens.copied < first,
          "$.model.copied_token is {}, and the tokens before the new ones are 0 to {}: wanted one "
          "of them",
          tokens.copied.value_or(0), first - 1);
  return std::max(rows, tokens.end);
}

void add_new_rows(PretrainedFiles& files, const TransformerShape& shape, const NewTokens& tokens,
                  int64_t rows) {
  if (tokens.count == 0) return;
  for (const std::string& name :
       {shape.names.root + "." + shape.names.embedding + ".weight", shape.names.head + ".weight"})
    for (StoredTensor& t : files.tensors) {
      if (t.name != name || t.shape.rank() != 2 || t.shape[0] != rows) continue;
      t.shape[0] = shape.vocabulary;
      t.dtype = DType::f32;
      t.read = [read = t.read, tokens, wanted = shape.vocabulary] {
        return with_new_rows(read(), tokens, wanted);
      };
      files.in_place.erase(name);
    }
}

}  // namespace reverie
