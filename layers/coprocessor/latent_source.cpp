#include "layers/coprocessor/latent_source.h"

#include <algorithm>

#include "autograd/ops/embedding.h"
#include "autograd/ops/shape.h"
#include "core/error.h"

namespace reverie {
namespace {

// Owns the keys and values that its groups see.
class GroupsBesideText final : public RowContext {
 public:
  GroupsBesideText(KeyValues text, const Tensor& limits, int64_t rows_per_group)
      : text_(std::move(text)), rows_(text_, limits, rows_per_group) {}
  const Tensor& positions() const override { return rows_.positions(); }
  Variable attend(int64_t layer, const Variable& query, const Variable& key, const Variable& value,
                  const AttentionSpec& spec) override {
    return rows_.attend(layer, query, key, value, spec);
  }
  RepeatedLayer repeated(int64_t layer) const override { return rows_.repeated(layer); }

 private:
  KeyValues text_;
  PackedGroupsContext rows_;
};

}  // namespace

std::unique_ptr<RowContext> TextView::beside(int64_t rows_per_group,
                                             const std::vector<int64_t>& layers) const {
  KeyValues text = keys_;
  if (!layers.empty()) {
    text.layers.clear();
    for (const int64_t layer : layers) text.layers.push_back(keys_.layers.at(size_t(layer)));
  }
  return std::make_unique<GroupsBesideText>(std::move(text), limits_, rows_per_group);
}

// Numbers of the last rows before each limit, in texts of `time` rows one after another.
Tensor TextView::last_rows(int64_t time) const {
  const int64_t all = batch() * groups();
  const Tensor limits = limits_.to(Device{}).contiguous();
  Tensor row = Tensor::empty({1, all}, DType::i32);
  for (int64_t i = 0; i < all; ++i)
    row.mutable_data<int32_t>()[i] = int32_t(i / groups() * time + limits.data<int32_t>()[i] - 1);
  return row;
}

Tensor TextView::last_tokens() const {
  require(tokens_.defined(), "this source needs the text's tokens, but got only a cache");
  const Tensor row = last_rows(tokens_.size(1)), tokens = tokens_.to(Device{}).contiguous();
  Tensor last = Tensor::empty(limits_.shape(), DType::i32);
  for (int64_t i = 0; i < last.numel(); ++i)
    last.mutable_data<int32_t>()[i] = tokens.data<int32_t>()[row.data<int32_t>()[i]];
  return last;
}

Variable TextView::last_hidden() const {
  const int64_t time = hidden_.size(1);
  return embedding(last_rows(time).to(hidden_.device()),
                   reshape(hidden_, {batch() * time, hidden_.size(2)}));
}

TextView::Whole TextView::whole(const LatentSource& asking) const {
  if (!asking.asks_for_whole_text())
    throw InternalError(
        "a source of latents reads the whole text, and its asks_for_whole_text() says that it does "
        "not");
  const Tensor limits = limits_.to(Device{}).contiguous();
  const int32_t* limit = limits.data<int32_t>();
  Whole all;
  all.length = *std::max_element(limit, limit + limits.numel());
  all.hidden = all.length < hidden_.size(1) ? slice(hidden_, 1, 0, all.length) : hidden_;
  if (tokens_.defined()) all.tokens = tokens_.slice(1, 0, all.length).contiguous();
  return all;
}

Variable for_each_group(const Variable& rows, const Tensor& limits) {
  const int64_t batch = limits.size(0), groups = limits.size(1), count = rows.size(0),
                features = rows.size(1);
  return reshape(expand(reshape(rows, {1, count, features}), 0, batch * groups),
                 {batch, groups * count, features});
}

Variable packed_cache(const KeyValues& cache) {
  std::vector<Variable> parts;
  for (const LayerKeyValues& layer : cache.layers)
    parts.insert(parts.end(), {layer.key, layer.value});
  return concat(parts, 2);
}
KeyValues unpacked_cache(const Variable& packed, int64_t layers) {
  const int64_t width = packed.size(2) / (2 * layers);
  KeyValues cache;
  for (int64_t i = 0; i < layers; ++i)
    cache.layers.push_back({slice(packed, 2, 2 * i * width, (2 * i + 1) * width),
                            slice(packed, 2, (2 * i + 1) * width, (2 * i + 2) * width)});
  return cache;
}

template <>
LatentRegistry& LatentRegistry::instance() {
  static LatentRegistry registry("latent source");
  return registry;
}

}  // namespace reverie
