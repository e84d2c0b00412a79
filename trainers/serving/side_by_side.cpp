#include "trainers/serving/side_by_side.h"

#include "autograd/ops/shape.h"
#include "core/error.h"
#include "layers/row_context.h"

namespace reverie {
namespace {

// One row of each text: row n sees the cache of text n, which grows by it.
class TextsContext final : public RowContext {
 public:
  explicit TextsContext(const std::vector<SequenceState*>& texts)
      : positions_(Tensor::empty({int64_t(texts.size()), 1}, DType::i32)) {
    for (size_t n = 0; n < texts.size(); ++n) {
      positions_.mutable_data<int32_t>()[n] = int32_t(texts[n]->rows_before + texts[n]->position);
      texts_.emplace_back(*texts[n], 1);
    }
  }
  const Tensor& positions() const override { return positions_; }
  Variable attend(int64_t layer, const Variable& query, const Variable& key, const Variable& value,
                  const AttentionSpec& spec) override {
    std::vector<Variable> rows;
    for (size_t n = 0; n < texts_.size(); ++n) {
      const auto own = [&](const Variable& x) { return slice(x, 0, int64_t(n), int64_t(n) + 1); };
      rows.push_back(texts_[n].attend(layer, own(query), own(key), own(value), spec));
    }
    return concat(rows, 0);
  }

 private:
  Tensor positions_;
  std::vector<CacheContext> texts_;
};

}  // namespace

Variable read_side_by_side(const Transformer& model, const std::vector<int32_t>& tokens,
                           const std::vector<SequenceState*>& texts) {
  const int64_t count = int64_t(texts.size());
  require(int64_t(tokens.size()) == count && count > 0, "{} tokens for {} texts", tokens.size(),
          count);
  require(!model.has_memory(), "texts of a model with memory cannot be read side by side");
  for (const SequenceState* text : texts)
    require(text->use_cache && text->position < model.block_size(),
            "a text of {} tokens, wanted one with a cache and fewer than {} (block_size)",
            text->position, model.block_size());
  TextsContext rows(texts);
  const Variable x = model.token_rows(Tensor::from<int32_t>({count, 1}, tokens));
  const Variable hidden = model.blocks().forward(model.placed(x, rows.positions()), rows);
  for (SequenceState* text : texts) ++text->position;
  return hidden;
}

}  // namespace reverie
