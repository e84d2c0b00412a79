#include "layers/memory/explicit_decoder.h"

#include <cmath>
#include <nlohmann/json.hpp>

#include "autograd/ops/elementwise.h"
#include "autograd/ops/matmul.h"
#include "autograd/ops/norm.h"
#include "autograd/ops/reduce.h"
#include "autograd/ops/shape.h"
#include "core/error.h"
#include "layers/linear.h"
#include "layers/memory/memory_module.h"

namespace reverie {
namespace {

constexpr double kNormEps = 1e-5;
constexpr const char* kMemory = "memory";

// Cross-attention of one block.
class CrossAttention final : public Module {
 public:
  CrossAttention(int64_t features, int64_t heads, const Build& build) : heads_(heads) {
    const LinearOptions plain{.bias = false};
    norm_ = &child<NormLayer>("norm", Norm::layer, features, false, kNormEps, build);
    query_ = &child<Linear>("query", features, features, plain, build);
    key_ = &child<Linear>("key", features, features, plain, build);
    value_ = &child<Linear>("value", features, features, plain, build);
    output_ = &child<Linear>("output", features, features, plain, build);
  }
  // x [B, T, C], memory [B, M, C] -> [B, T, C].
  Variable forward(const Variable& x, const Variable& memory) const {
    const int64_t batch = x.size(0), time = x.size(1), features = x.size(2);
    const Variable query = by_head(query_->forward(norm_->forward(x))),
                   key = by_head(key_->forward(memory)), value = by_head(value_->forward(memory));
    const double size = double(features) / double(heads_);
    const Variable weights = softmax(matmul(query, key, false, true), 1 / std::sqrt(size));
    const Variable read =
        reshape(matmul(weights, value), {batch, heads_, time, features / heads_});  // [B, H, T, D]
    return output_->forward(reshape(transpose(read, 1, 2), {batch, time, features}));
  }

  // Norm, query and key choose among rows; with a single row they have no effect.
  void freeze_choice() {
    norm_->freeze();
    query_->freeze();
    key_->freeze();
  }

 private:
  // [B, N, C] -> [B H, N, D].
  Variable by_head(const Variable& x) const {
    const int64_t batch = x.size(0), rows = x.size(1), size = x.size(2) / heads_;
    return reshape(transpose(reshape(x, {batch, rows, heads_, size}), 1, 2),
                   {batch * heads_, rows, size});
  }
  int64_t heads_;
  NormLayer* norm_;
  Linear *query_, *key_, *value_, *output_;
};

// Stands where a model's own memory module would, and brings another model's memory in.
class MemoryReader final : public MemoryModule {
 public:
  MemoryReader(const DecoderOptions& o, const DecoderShape& shape, const Build& build) {
    project_ =
        &child<Linear>("project", shape.features, o.n_embd,
                       LinearOptions{.stddev = 1 / std::sqrt(double(shape.features))}, build);
    places_ = parameter("places", build.weights({shape.rows, o.n_embd}, 0.02));
    for (int64_t i = 0; i < o.n_layer; ++i)
      layers_.push_back(&child<CrossAttention>(std::to_string(i), o.n_embd, o.n_head, build));
    if (shape.rows == 1)
      for (CrossAttention* layer : layers_) layer->freeze_choice();
    if (shape.features == 1) project_->freeze();  // the norm of one feature is always 0
  }
  Variable projected(const Variable& memory) const {
    const int64_t batch = memory.size(0);
    const Variable places =
        expand(reshape(places_, {1, places_.size(0), places_.size(1)}), 0, batch);
    return add(project_->forward(layer_norm(memory, {}, {}, kNormEps)), places);
  }
  Variable before_block(const LayerView& view, MemoryState& state) override {
    return add(view.hidden,
               layers_.at(size_t(view.layer))->forward(view.hidden, state.values.at(kMemory)));
  }
  bool incremental() const override { return true; }

 private:
  Linear* project_;
  Variable places_;
  std::vector<CrossAttention*> layers_;
};

}  // namespace

void DecoderOptions::fields(Fields& f) {
  f.integer("n_layer", n_layer, {1, 1000}, "blocks, each with attention to the memory before it");
  f.integer("n_head", n_head, {1, 1024}, "heads of both attentions; divides n_embd");
  f.integer("n_embd", n_embd, {1, 1 << 20}, "width");
  f.number("dropout", dropout, {0, 0.99}, "dropout of attention weights and residual branches");
  f.boolean("rematerialize", rematerialize,
            "recompute blocks in the backward pass instead of keeping their activations");
  f.rule(n_embd % n_head == 0,
         fmt::format("decoder: n_embd {} is not a multiple of n_head {}", n_embd, n_head));
}

ExplicitDecoder::ExplicitDecoder(const DecoderOptions& o, const DecoderShape& shape,
                                 const Build& build)
    : shape_(shape) {
  const Json model = {{"type", "gpt2"},
                      {"vocab_size", shape.vocabulary},
                      {"block_size", shape.length},
                      {"n_layer", o.n_layer},
                      {"n_head", o.n_head},
                      {"n_embd", o.n_embd},
                      {"dropout", o.dropout},
                      {"rematerialize", o.rematerialize}};
  text_ = dynamic_cast<Transformer*>(
      &adopt("text", ModelRegistry::instance().make(
                         resolve_component(ModelRegistry::instance(), Config(model, "$")), build)));
  if (!text_) throw InternalError("gpt2 is no transformer");
  reader_ = &child<MemoryReader>("reader", o, shape, build);
}

Variable ExplicitDecoder::forward(const Variable& memory, const Tensor& tokens) const {
  require(memory.rank() == 3 && memory.size(0) == tokens.size(0) && memory.size(1) == shape_.rows &&
              memory.size(2) == shape_.features,
          "a decoder of memories [{}, {}, {}] got {}", tokens.size(0), shape_.rows, shape_.features,
          memory.tensor());
  MemoryState state;
  state.values[kMemory] = static_cast<const MemoryReader*>(reader_)->projected(memory);
  CausalContext rows(tokens.size(1));
  return text_->blocks().forward(text_->placed(text_->token_rows(tokens), rows.positions()), rows,
                                 reader_, &state);
}

}  // namespace reverie
