#pragma once
// Small models for tests of layers and trainers, from JSON.

#include <memory>
#include <string>
#include <vector>

#include "core/config.h"
#include "layers/language_model.h"

namespace reverie::testing {

inline Component model_component(const std::string& json) {
  return resolve_component(ModelRegistry::instance(), Config::parse(json, "test"));
}

// The model with weights large enough for every path to carry weight: matrices 0.3 N(0, 1), norms
// 1 + 0.1 N(0, 1), biases 0.1 N(0, 1).
inline std::unique_ptr<LanguageModel> make_model(const std::string& json,
                                                 DType dtype = DType::f64) {
  Generator random(7);
  auto model = ModelRegistry::instance().make(model_component(json), Build{random, dtype});
  for (auto& [name, parameter] : model->parameters()) {
    const bool matrix = parameter.rank() >= 2, bias = name.ends_with("bias");
    Tensor target = parameter.tensor();
    target.copy_from(
        random.normal(parameter.shape(), matrix || bias ? 0 : 1, matrix ? 0.3 : 0.1, DType::f64));
  }
  return model;
}

inline Tensor random_tokens(int64_t rows, int64_t length, int64_t vocabulary, uint64_t seed = 3) {
  Generator random(seed);
  std::vector<int32_t> tokens(size_t(rows * length));
  for (int32_t& t : tokens) t = int32_t(random.below(uint64_t(vocabulary)));
  return Tensor::from<int32_t>({rows, length}, tokens);
}

// Largest |a - b|; infinite where one is not a number.
inline double largest_difference(const Tensor& a, const Tensor& b) {
  const auto x = a.to_vector(), y = b.to_vector();
  if (x.size() != y.size()) return INFINITY;
  double largest = 0;
  for (size_t i = 0; i < x.size(); ++i) {
    const double d = x[i] > y[i] ? x[i] - y[i] : y[i] - x[i];
    if (!(d <= largest)) largest = d == d ? d : INFINITY;
  }
  return largest;
}

struct NamedModel {
  const char* name;
  const char* json;
  bool causal = true;  // and so incremental: the two go together here
};
inline void PrintTo(const NamedModel& m, std::ostream* out) {
  *out << m.name;
}

#define REVERIE_TINY R"("vocab_size":13,"block_size":19,"n_layer":2,"n_head":2,"n_embd":8)"
#define REVERIE_IMM(OPTIONS)        \
  R"({"type":"gpt2",)" REVERIE_TINY \
  R"(,"memory":{"type":"imm","low_rank_dim":3,"num_slots":3,)" OPTIONS "}}"

// Every shape and memory mode.
inline const NamedModel kTinyModels[] = {
    {"gpt2", R"({"type":"gpt2",)" REVERIE_TINY "}"},
    {"gpt2_biases", R"({"type":"gpt2",)" REVERIE_TINY R"(,"bias":true,"activation":"gelu_tanh"})"},
    {"llama", R"({"type":"llama",)" REVERIE_TINY R"(,"n_kv_head":1})"},
    {"llama_tied", R"({"type":"llama",)" REVERIE_TINY R"(,"tie_weights":true})"},
    {"as_published", REVERIE_IMM(R"("mode":"as_published")"), false},
    {"full_rank", REVERIE_IMM(R"("mode":"full_rank")"), false},
    {"causal_mean", REVERIE_IMM(R"("mode":"causal_mean")")},
    {"causal_mean_carried", REVERIE_IMM(R"("mode":"causal_mean","carry_state":true)")},
    {"segment", REVERIE_IMM(R"("mode":"segment","segment_length":4)")},
    {"segment_5", REVERIE_IMM(R"("mode":"segment","segment_length":5)")},
    {"segment_carried", REVERIE_IMM(R"("mode":"segment","segment_length":5,"carry_state":true)")},
    {"slots", REVERIE_IMM(R"("mode":"slots","chunk_length":4)")},
    {"slots_every_row", REVERIE_IMM(R"("mode":"slots","chunk_length":1)")},
    {"slots_carried", REVERIE_IMM(R"("mode":"slots","chunk_length":3,"carry_state":true)")},
    {"one_slot_published",
     R"({"type":"gpt2",)" REVERIE_TINY
     R"(,"memory":{"type":"imm","mode":"as_published","low_rank_dim":3,"num_slots":1}})",
     false},
    {"one_slot_causal_mean",
     R"({"type":"gpt2",)" REVERIE_TINY
     R"(,"memory":{"type":"imm","mode":"causal_mean","low_rank_dim":3,"num_slots":1}})"},
    {"one_slot_segment",
     R"({"type":"gpt2",)" REVERIE_TINY
     R"(,"memory":{"type":"imm","mode":"segment","low_rank_dim":3,"num_slots":1,)"
     R"("segment_length":5}})"},
    {"one_slot_slots",
     R"({"type":"llama",)" REVERIE_TINY
     R"(,"memory":{"type":"imm","mode":"slots","low_rank_dim":3,"num_slots":1,"chunk_length":2}})"},
    {"llama_segment",
     R"({"type":"llama",)" REVERIE_TINY
     R"(,"memory":{"type":"imm","mode":"segment","low_rank_dim":3,"segment_length":4,)"
     R"("dropout":0.2},"dropout":0.2})"},
    {"llama3", R"({"type":"llama",)" REVERIE_TINY
               R"(,"head_dim":6,"rope_theta":50,"rope_scaling":{"type":"llama3","factor":8,)"
               R"("original_block_size":12}})"},
    {"mistral", R"({"type":"mistral",)" REVERIE_TINY R"(,"n_kv_head":1,"sliding_window":4})"},
    {"qwen2", R"({"type":"qwen2",)" REVERIE_TINY R"(,"n_kv_head":1})"},
    {"qwen2_windows", R"({"type":"qwen2",)" REVERIE_TINY
                      R"(,"n_kv_head":1,"sliding_window":4,"max_window_layers":1})"},
    {"qwen3", R"({"type":"qwen3",)" REVERIE_TINY R"(,"head_dim":6})"},
    {"gemma2", R"({"type":"gemma2",)" REVERIE_TINY
               R"(,"n_kv_head":1,"head_dim":6,"sliding_window":4,"query_pre_attn_scalar":5,)"
               R"("attention_softcap":1.5,"logit_softcap":1.2})"},
    {"gemma3", R"({"type":"gemma3",)" REVERIE_TINY
               R"(,"head_dim":6,"sliding_window":3,"global_every":2,"rope_theta":100,)"
               R"("rope_local_theta":10,"rope_scaling":{"type":"linear","factor":4}})"},
};

}  // namespace reverie::testing
