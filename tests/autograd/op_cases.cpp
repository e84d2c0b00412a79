#include "op_cases.h"

#include <fmt/format.h>

#include "autograd/node.h"
#include "autograd/ops/attention.h"
#include "autograd/ops/elementwise.h"
#include "autograd/ops/embedding.h"
#include "autograd/ops/loss.h"
#include "autograd/ops/matmul.h"
#include "autograd/ops/norm.h"
#include "autograd/ops/reduce.h"
#include "autograd/ops/shape.h"
#include "autograd/rematerialize.h"

namespace reverie::testing {
namespace {

class CaseList {
 public:
  // Inputs are standard normal tensors of the given shapes.
  void add(const std::string& name, const std::vector<Shape>& shapes, const MultiFunction& function,
           const GradcheckOptions& options = {}) {
    std::vector<Tensor> inputs;
    for (const Shape& s : shapes) inputs.push_back(normal(s, 100 + inputs.size()));
    cases.push_back({name, std::move(inputs), function, options});
  }
  std::vector<OpCase> cases;
};

void elementwise(CaseList& list) {
  for (const auto& entry : kUnaryFunctions) {
    const Unary f = entry.function;
    const std::string_view name = entry.name;
    list.add(fmt::format("unary_{}", name), {{3, 19}},
             [f](const Variables& v) { return Variables{unary(f, v[0])}; });
    list.add(fmt::format("bias_activation_{}", name), {{2, 3, 7}, {7}},
             [f](const Variables& v) { return Variables{bias_activation(f, v[0], v[1])}; });
    list.add(fmt::format("bias_activation_{}_without_bias", name), {{5, 7}},
             [f](const Variables& v) { return Variables{bias_activation(f, v[0], {})}; });
    list.add(fmt::format("linear_activation_{}", name), {{2, 3, 5}, {7, 5}, {7}},
             [f](const Variables& v) { return Variables{linear_activation(f, v[0], v[1], v[2])}; });
    list.add(fmt::format("linear_activation_{}_in_out_without_bias", name), {{4, 5}, {5, 7}},
             [f](const Variables& v) {
               return Variables{linear_activation(f, v[0], v[1], {}, WeightLayout::in_out)};
             });
    list.add(fmt::format("gated_{}", name), {{2, 3, 7}, {2, 3, 7}},
             [f](const Variables& v) { return Variables{gated(f, v[0], v[1])}; });
  }
  const Shape broadcasts[] = {{2, 3, 4}, {4},       {3, 1},    {2, 3, 1}, {1},      {3, 4},
                              {2, 1, 1}, {1, 3, 1}, {1, 1, 4}, {1, 1, 1}, {1, 3, 4}};
  for (const auto& entry : kBinaryFunctions) {
    const Binary f = entry.function;
    const std::string_view name = entry.name;
    const auto function = [f](const Variables& v) { return Variables{binary(f, v[0], v[1])}; };
    for (const Shape& b : broadcasts)
      list.add(fmt::format("{}_{}", name, b.str()), {{2, 3, 4}, b}, function);
    list.add(fmt::format("{}_over_sizes_of_1", name), {{1, 3, 1, 4}, {3, 1, 1}}, function);
    list.add(fmt::format("{}_of_one_thing", name), {{3, 4}},
             [f](const Variables& v) { return Variables{binary(f, v[0], v[0])}; });
  }
  list.add("affine", {{3, 5}},
           [](const Variables& v) { return Variables{affine(v[0], -2.5, 0.75)}; });
  list.add("scale", {{17}}, [](const Variables& v) { return Variables{scale(v[0], 3)}; });
  for (int64_t n : {1, 7, 64}) {
    list.add(fmt::format("dropout_of_{}", n), {{n}}, [](const Variables& v) {
      default_generator() = Generator(7, 3);
      return Variables{dropout(v[0], 0.3)};
    });
  }
}

void matrices(CaseList& list) {
  // Stored shapes of op(a) [M, K] and op(b) [K, N], with batches in front.
  const auto stored = [](std::vector<int64_t> batch, int64_t rows, int64_t columns,
                         bool transpose) {
    Shape s;
    for (int64_t b : batch) s.push_back(b);
    s.push_back(transpose ? columns : rows);
    s.push_back(transpose ? rows : columns);
    return s;
  };
  for (bool ta : {false, true}) {
    for (bool tb : {false, true}) {
      const auto function = [=](const Variables& v) {
        return Variables{matmul(v[0], v[1], ta, tb, 0.5)};
      };
      const std::string suffix = fmt::format("{}{}", ta ? "_at" : "", tb ? "_bt" : "");
      list.add("matmul" + suffix, {stored({}, 3, 4, ta), stored({}, 4, 5, tb)}, function);
      list.add("matmul_batched" + suffix, {stored({2}, 3, 4, ta), stored({2}, 4, 5, tb)}, function);
      list.add("matmul_shared_b" + suffix, {stored({2}, 3, 4, ta), stored({}, 4, 5, tb)}, function);
      list.add("matmul_column" + suffix, {stored({2}, 3, 4, ta), stored({}, 4, 1, tb)}, function);
    }
  }
  list.add("matmul_of_one_thing", {{3, 3}},
           [](const Variables& v) { return Variables{matmul(v[0], v[0])}; });
  for (WeightLayout layout : {WeightLayout::out_in, WeightLayout::in_out}) {
    const bool out_in = layout == WeightLayout::out_in;
    const Shape weight = out_in ? Shape{5, 4} : Shape{4, 5};
    const std::string suffix = out_in ? "_out_in" : "_in_out";
    const auto with = [=](const Variables& v) {
      return Variables{linear(v[0], v[1], v[2], layout)};
    };
    const auto without = [=](const Variables& v) {
      return Variables{linear(v[0], v[1], {}, layout)};
    };
    list.add("linear" + suffix, {{3, 4}, weight, {5}}, with);
    list.add("linear_3d" + suffix, {{2, 3, 4}, weight, {5}}, with);
    list.add("linear_1d" + suffix, {{4}, weight, {5}}, with);
    list.add("linear_without_bias" + suffix, {{2, 3, 4}, weight}, without);
    list.add("linear_of_its_weight" + suffix, {{4, 4}},
             [=](const Variables& v) { return Variables{linear(v[0], v[0], {}, layout)}; });
  }
}

void norms(CaseList& list) {
  const double eps = 1e-5;
  list.add("layer_norm", {{2, 3, 7}, {7}, {7}},
           [=](const Variables& v) { return Variables{layer_norm(v[0], v[1], v[2], eps)}; });
  list.add("layer_norm_without_bias", {{5, 7}, {7}},
           [=](const Variables& v) { return Variables{layer_norm(v[0], v[1], {}, eps)}; });
  list.add("layer_norm_without_weight", {{5, 7}, {7}},
           [=](const Variables& v) { return Variables{layer_norm(v[0], {}, v[1], eps)}; });
  list.add("layer_norm_plain", {{5, 7}},
           [=](const Variables& v) { return Variables{layer_norm(v[0], {}, {}, eps)}; });
  list.add("rms_norm", {{2, 3, 7}, {7}},
           [=](const Variables& v) { return Variables{rms_norm(v[0], v[1], eps)}; });
  list.add("rms_norm_plain", {{5, 7}},
           [=](const Variables& v) { return Variables{rms_norm(v[0], {}, eps)}; });
  for (Norm kind : {Norm::layer, Norm::rms}) {
    const std::string name = kind == Norm::layer ? "residual_layer_norm" : "residual_rms_norm";
    const auto run = [=](const Variables& v) {
      return residual_norm(kind, v[0], v[1], v[2], kind == Norm::layer ? v[3] : Variable(), eps);
    };
    std::vector<Shape> shapes = {{2, 3, 7}, {2, 3, 7}, {7}};
    if (kind == Norm::layer) shapes.push_back({7});
    list.add(name, shapes, [=](const Variables& v) {
      const ResidualNorm r = run(v);
      return Variables{r.sum, r.normed};
    });
    list.add(name + "_only_sum", shapes, [=](const Variables& v) { return Variables{run(v).sum}; });
    list.add(name + "_only_normed", shapes,
             [=](const Variables& v) { return Variables{run(v).normed}; });
    list.add(name + "_plain", {{4, 7}, {4, 7}}, [=](const Variables& v) {
      const ResidualNorm r = residual_norm(kind, v[0], v[1], {}, {}, eps);
      return Variables{r.sum, r.normed};
    });
    list.add(name + "_of_one_thing", {{4, 7}}, [=](const Variables& v) {
      const ResidualNorm r = residual_norm(kind, v[0], v[0], {}, {}, eps);
      return Variables{r.sum, r.normed};
    });
  }
}

void attentions(CaseList& list) {
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
}

void tables_and_losses(CaseList& list) {
  const Tensor tokens = Tensor::from<int32_t>({2, 4}, {3, 0, 3, 3, 1, 3, 5, 0});
  list.add("embedding", {{6, 5}}, [=](const Variables& v) {
    return Variables{embedding(tokens.to(v[0].device()), v[0])};
  });
  list.add("embedding_positions", {{6, 5}, {7, 5}}, [=](const Variables& v) {
    return Variables{embedding(tokens.to(v[0].device()), v[0], v[1], 2)};
  });
  list.add("embedding_one_table_twice", {{6, 5}}, [=](const Variables& v) {
    return Variables{embedding(tokens.to(v[0].device()), v[0], v[0], 1)};
  });

  const Tensor targets = Tensor::from<int32_t>({2, 3}, {4, -1, 0, 2, 2, -1});
  list.add("cross_entropy", {{2, 3, 5}}, [=](const Variables& v) {
    return Variables{cross_entropy(v[0], targets.to(v[0].device()))};
  });
  list.add("linear_cross_entropy", {{2, 3, 4}, {5, 4}}, [=](const Variables& v) {
    return Variables{linear_cross_entropy(v[0], v[1], targets.to(v[0].device()), 0.25)};
  });
  // Logits of a few units against a cap of 1.5: well into the bend.
  list.add("linear_cross_entropy_capped", {{2, 3, 4}, {5, 4}}, [=](const Variables& v) {
    return Variables{linear_cross_entropy(v[0], v[1], targets.to(v[0].device()), 0.25, 1.5)};
  });
  list.add("softcap", {{3, 5}}, [](const Variables& v) { return Variables{softcap(v[0], 0.8)}; });
  // Enough vocabulary and rows for three chunks; few elements, for each takes two evaluations.
  const int64_t rows = 150, vocabulary = 40000;
  Tensor many = Tensor::empty({rows}, DType::i32);
  for (int64_t i = 0; i < rows; ++i)
    many.mutable_data<int32_t>()[i] = int32_t(i % 7 == 3 ? -1 : (i * 271) % vocabulary);
  GradcheckOptions few;
  few.max_elements = 5;
  list.add(
      "linear_cross_entropy_in_chunks", {{rows, 2}, {vocabulary, 2}},
      [=](const Variables& v) {
        return Variables{linear_cross_entropy(v[0], v[1], many.to(v[0].device()), 1.0)};
      },
      few);
}

void shapes(CaseList& list) {
  list.add("reshape", {{2, 3, 4}}, [](const Variables& v) {
    return Variables{reshape(v[0], {6, -1})};
  });
  list.add("transpose", {{2, 3, 4}},
           [](const Variables& v) { return Variables{transpose(v[0], 0, -1)}; });
  for (int dim : {0, 1, -1}) {
    list.add(fmt::format("slice_{}", dim), {{3, 4, 5}},
             [=](const Variables& v) { return Variables{slice(v[0], dim, 1, 3)}; });
    list.add(fmt::format("overlapping_slices_{}", dim), {{3, 4, 5}}, [=](const Variables& v) {
      return Variables{slice(v[0], dim, 0, 2), slice(v[0], dim, 1, 3)};
    });
    Shape first{2, 2, 2}, second{2, 2, 2};
    second[dim] = 3;
    list.add(fmt::format("concat_{}", dim), {first, second, first}, [=](const Variables& v) {
      return Variables{concat({v[0], v[1], v[2]}, dim)};
    });
    list.add(fmt::format("concat_of_one_thing_{}", dim), {first}, [=](const Variables& v) {
      return Variables{concat({v[0], v[0]}, dim)};
    });
    Shape thin{2, 3, 4};
    thin[dim] = 1;
    list.add(fmt::format("expand_{}", dim), {thin},
             [=](const Variables& v) { return Variables{expand(v[0], dim, 5)}; });
    list.add(fmt::format("sum_{}", dim), {{2, 3, 4}},
             [=](const Variables& v) { return Variables{sum(v[0], dim)}; });
    list.add(fmt::format("mean_{}", dim), {{2, 3, 4}},
             [=](const Variables& v) { return Variables{mean(v[0], dim)}; });
    Shape initial;
    for (int i = 0; i < 3; ++i)
      if (i != (dim + 3) % 3) initial.push_back(Shape{2, 3, 4}[i]);
    list.add(fmt::format("cumulative_sum_{}", dim), {{2, 3, 4}},
             [=](const Variables& v) { return Variables{cumulative_sum(v[0], dim)}; });
    list.add(fmt::format("cumulative_sum_initial_{}", dim), {{2, 3, 4}, initial},
             [=](const Variables& v) { return Variables{cumulative_sum(v[0], dim, v[1])}; });
  }
  list.add("sum_of_a_vector", {{5}}, [](const Variables& v) { return Variables{sum(v[0], 0)}; });
  list.add("sum_all", {{2, 3, 4}}, [](const Variables& v) { return Variables{sum_all(v[0])}; });
  list.add("softmax", {{2, 3, 5}},
           [](const Variables& v) { return Variables{softmax(v[0], 0.7)}; });
  const Tensor valid = Tensor::from<int32_t>({6}, {5, 1, 0, 3, 4, 2});
  list.add("softmax_valid", {{2, 3, 5}}, [=](const Variables& v) {
    return Variables{softmax(v[0], 1.3, valid.to(v[0].device()))};
  });
}

void graphs(CaseList& list) {
  list.add("rematerialized_block", {{3, 4}, {4, 4}, {4}}, [](const Variables& v) {
    default_generator() = Generator(5);
    const auto block = [](const Variables& in) {
      return add(dropout(gelu(linear(in[0], in[1], in[2])), 0.2), in[0]);
    };
    return Variables{rematerialize(block, {rematerialize(block, v), v[1], v[2]})};
  });
  list.add("diamond", {{3, 4}, {3, 4}}, [](const Variables& v) {
    const Variable a = multiply(v[0], v[1]), b = silu(a), c = sigmoid(a);
    return Variables{add(multiply(b, c), a), subtract(b, v[0])};
  });
}

}  // namespace

std::vector<OpCase> op_cases() {
  CaseList list;
  elementwise(list);
  matrices(list);
  norms(list);
  attentions(list);
  tables_and_losses(list);
  shapes(list);
  graphs(list);
  return list.cases;
}

std::set<std::string> ops_below(const Variables& outputs) {
  std::set<std::string> names;
  std::set<const Node*> seen;
  std::vector<const Node*> todo;
  const auto visit = [&](const std::shared_ptr<Node>& n) {
    if (n && seen.insert(n.get()).second) todo.push_back(n.get());
  };
  for (const Variable& v : outputs) visit(v.impl()->producer);
  while (!todo.empty()) {
    const Node* n = todo.back();
    todo.pop_back();
    names.emplace(n->name());
    for (const Edge& e : n->edges) visit(e.node);
  }
  return names;
}

}  // namespace reverie::testing
