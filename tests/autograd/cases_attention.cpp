// Attention and rotary positions.

#include <fmt/format.h>

#include "autograd/ops/attention.h"
#include "op_cases.h"

namespace reverie::testing {
namespace {

void cases(OpCases& list) {
  GradcheckOptions few;
  few.max_elements = 24;
  struct Heads {
    int64_t heads, kv_heads, dim;
  };
  for (const Heads h : {Heads{1, 1, 4}, Heads{3, 3, 4}, Heads{4, 2, 2}, Heads{4, 1, 6}}) {
    for (int64_t time : {1, 7, 33}) {
      for (double p : {0.0, 0.4}) {
        AttentionSpec spec;
        spec.heads = h.heads;
        spec.kv_heads = h.kv_heads;
        spec.dropout = p;
        const auto seeded = [=] { default_generator() = Generator(11, 5); };
        const std::string suffix = fmt::format("_heads_{}_kv_{}_time_{}{}", h.heads, h.kv_heads,
                                               time, p > 0 ? "_dropout" : "");
        list.add(
            "packed_attention" + suffix, {{2, time, (h.heads + 2 * h.kv_heads) * h.dim}},
            [=](const Variables& v) {
              seeded();
              return Variables{packed_attention(v[0], spec)};
            },
            few);
        // Queries that start after some keys, as in decoding, and keys that no query of this call
        // may see.
        AttentionSpec later = spec;
        later.first_position = 5;
        list.add(
            "attention" + suffix,
            {{2, time, h.heads * h.dim},
             {2, time + 8, h.kv_heads * h.dim},
             {2, time + 8, h.kv_heads * h.dim}},
            [=](const Variables& v) {
              seeded();
              return Variables{attention(v[0], v[1], v[2], later)};
            },
            few);
      }
    }
  }
  AttentionSpec scaled;
  scaled.heads = scaled.kv_heads = 2;
  scaled.scale = 0.3;
  list.add("attention_scaled", {{1, 3, 8}, {1, 3, 8}, {1, 3, 8}},
           [=](const Variables& v) { return Variables{attention(v[0], v[1], v[2], scaled)}; });
  list.add("attention_of_one_thing", {{1, 3, 8}},
           [=](const Variables& v) { return Variables{attention(v[0], v[0], v[0], scaled)}; });
  struct Reach {
    const char* name;
    double softcap;
    int64_t window, time;
  };
  for (const Reach& r : {Reach{"softcap", 0.7, 0, 9}, Reach{"window", 0, 3, 9},
                         Reach{"softcap_window", 2, 66, 75}, Reach{"softcap_row", 0.5, 4, 1}}) {
    AttentionSpec spec;
    spec.heads = 4;
    spec.kv_heads = 2;
    spec.softcap = r.softcap;
    spec.window = r.window;
    list.add(
        fmt::format("packed_attention_{}", r.name), {{2, r.time, 8 * 6}},
        [=](const Variables& v) { return Variables{packed_attention(v[0], spec)}; }, few);
    spec.first_position = 7;
    list.add(
        fmt::format("attention_{}", r.name),
        {{1, r.time, 4 * 6}, {1, r.time + 8, 2 * 6}, {1, r.time + 8, 2 * 6}},
        [=](const Variables& v) { return Variables{attention(v[0], v[1], v[2], spec)}; }, few);
  }
  for (int64_t first : {0, 9}) {
    list.add(fmt::format("rope_from_{}", first), {{2, 5, 12}},
             [=](const Variables& v) { return Variables{rope(v[0], 3, 10000, first)}; });
  }
  const Tensor limits = Tensor::from<int32_t>({2, 3}, {4, 0, 9, 2, 9, 6});
  struct Asked {
    Reach reach;
    int64_t asking;  // of a group's rows
  };
  for (const auto& [r, asking] :
       {Asked{{"", 0, 0, 4}, 4}, Asked{{"_softcap", 0.7, 0, 1}, 1}, Asked{{"_window", 0, 3, 5}, 5},
        Asked{{"_of_last_rows", 0, 0, 4}, 2}}) {
    AttentionSpec spec;
    spec.heads = 4;
    spec.kv_heads = 2;
    spec.softcap = r.softcap;
    spec.window = r.window;
    const int64_t rows = 3 * r.time, q = 4 * 6, kv = 2 * 6;
    list.add(
        fmt::format("grouped_attention{}", r.name),
        {{2, 3 * asking, q}, {2, rows, kv}, {2, rows, kv}, {2, 9, kv}, {2, 9, 2, 6}},
        [=](const Variables& v) {
          return Variables{
              grouped_attention(v[0], v[1], v[2], v[3], v[4], limits.to(v[0].device()), spec)};
        },
        few);
  }
  const Tensor positions = Tensor::from<int32_t>({2, 3}, {3, 4, 5, 0, 8, 8});
  list.add("rope_at_positions", {{2, 3, 12}}, [=](const Variables& v) {
    return Variables{
        rope(v[0], 2, positions.to(v[0].device()), rope_frequencies(6, 100).to(v[0].device()))};
  });

  const auto with_heads = [](int64_t heads, int64_t kv_heads) {
    AttentionSpec spec;
    spec.heads = heads;
    spec.kv_heads = kv_heads;
    return spec;
  };
  list.refuses("packed_attention", "packed_attention: qkv is f64[1, 2, 13] cpu for 6 heads; wanted",
               [=] {
                 packed_attention(zeros({1, 2, 13}), with_heads(2, 2));
               });
  list.refuses("packed_attention",
               "attention_forward: 3 query heads are not a multiple of 2 key heads", [=] {
                 packed_attention(zeros({1, 2, 14}), with_heads(3, 2));
               });
  list.refuses("attention", "attention: key is f64[1, 3, 6] cpu; wanted [batch, time, 8]", [=] {
    attention(zeros({1, 3, 8}), zeros({1, 3, 6}), zeros({1, 3, 8}), with_heads(2, 2));
  });
  list.refuses("attention", "queries at positions 0..2 need as many keys, got 2", [=] {
    attention(zeros({1, 3, 8}), zeros({1, 2, 8}), zeros({1, 2, 8}), with_heads(2, 2));
  });
  list.refuses("grouped_attention", "takes no dropout (0.5) and no first position (0)", [=] {
    AttentionSpec spec = with_heads(2, 2);
    spec.dropout = 0.5;
    const Variable x = zeros({1, 4, 8});
    grouped_attention(x, x, x, x, x, Tensor::zeros({1, 2}, DType::i32), spec);
  });
  list.refuses("grouped_attention", "grouped_attention: context_key is f64[1, 4, 6] cpu; wanted",
               [=] {
                 const Variable x = zeros({1, 4, 8});
                 grouped_attention(x, x, x, zeros({1, 4, 6}), x, Tensor::zeros({1, 2}, DType::i32),
                                   with_heads(2, 2));
               });
  list.refuses("rope", "rope: head_dim is 3; wanted an even number", [] {
    rope(zeros({1, 2, 6}), 2, Tensor::zeros({2}, DType::i32), Tensor::zeros({1}, DType::f64));
  });
  list.refuses("rope", "rope: x is f64[1, 2, 6] cpu for 4 heads; wanted", [] {
    rope(zeros({1, 2, 6}), 4, 10000, 0);
  });
}

const OpCaseFile file(cases);

}  // namespace
}  // namespace reverie::testing
