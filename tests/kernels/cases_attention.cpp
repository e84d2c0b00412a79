#include <cmath>

#include "kernels/attention.h"
#include "kernels/case.h"
#include "kernels/naive.h"
#include "kernels/refusals.h"

namespace reverie::test {
namespace {

using naive::AttentionShape;

struct Options {
  bool packed = false;  // query, key and value are views into one [B, T, (H + 2 Hkv) D] tensor, as
                        // a fused projection makes them
  double dropout = 0;
  int64_t first_position = 0;
  double softcap = 0;
  int64_t window = 0;
};

AttentionOptions options_of(const AttentionShape& s, const Options& o) {
  return {1 / std::sqrt(double(s.dim)),
          o.first_position,
          o.dropout,
          77,
          4294967295,
          o.softcap,
          o.window};
}
std::string name_of_case(const AttentionShape& s, const Options& o) {
  return fmt::format("B{} Tq{} Tk{} H{}/{} D{}{}{}{}{}{}", s.batch, s.queries, s.keys, s.heads,
                     s.kv_heads, s.dim, o.packed ? " packed" : "",
                     o.dropout > 0 ? fmt::format(" dropout {}", o.dropout) : "",
                     o.first_position > 0 ? fmt::format(" from {}", o.first_position) : "",
                     o.softcap > 0 ? fmt::format(" capped at {}", o.softcap) : "",
                     o.window > 0 ? fmt::format(" window {}", o.window) : "");
}

struct Three {
  Tensor query, key, value;
};
Three views(const AttentionShape& s, const Tensor& packed) {
  const int64_t q = s.heads * s.dim, kv = s.kv_heads * s.dim;
  const auto heads = [&](int64_t begin, int64_t count) {
    // [B, T, all] -> [B, T, H, D] without a copy: whole heads are columns of the packed tensor.
    return packed.view({s.batch, s.queries, (q + 2 * kv) / s.dim, s.dim})
        .slice(2, begin / s.dim, begin / s.dim + count);
  };
  return {heads(0, s.heads), heads(q, s.kv_heads), heads(q + kv, s.kv_heads)};
}
Three inputs(Execution& run, const AttentionShape& s, const Options& o) {
  if (o.packed)
    return views(s, run.input({s.batch, s.queries, (s.heads + 2 * s.kv_heads) * s.dim}));
  return {run.input({s.batch, s.queries, s.heads, s.dim}),
          run.input({s.batch, s.keys, s.kv_heads, s.dim}),
          run.input({s.batch, s.keys, s.kv_heads, s.dim})};
}

void forward(std::vector<Case>& cases, AttentionShape s, Options o) {
  cases.push_back({"attention_forward", name_of_case(s, o), [=](Execution& run) {
                     const Three in = inputs(run, s, o);
                     Tensor &output = run.output("output", {s.batch, s.queries, s.heads, s.dim}),
                            &log_sum_exp = run.output("log_sum_exp", {s.batch, s.heads, s.queries});
                     kernel::attention_forward(
                         run.device(),
                         {in.query, in.key, in.value, options_of(s, o), output, log_sum_exp});
                     const auto r = naive::attention(s, in.query.to_vector(), in.key.to_vector(),
                                                     in.value.to_vector(), options_of(s, o));
                     run.expect("output", r.output, 4);
                     run.expect("log_sum_exp", r.log_sum_exp, 4);
                   }});
}

// A gradient of scores is the difference of two sums of D products. Where a query sees one key they
// are equal and the gradient is 0, but each is rounded by about 2^-23 sqrt(D), and that comes times
// the scale 1 / sqrt(D) and a key or query of up to about 4: half a millionth, which errors
// relative to this size allow.
constexpr double kCancelled = 0.03;

void backward(std::vector<Case>& cases, AttentionShape s, Options o) {
  cases.push_back(
      {"attention_backward", name_of_case(s, o), [=](Execution& run) {
         const Three in = inputs(run, s, o);
         const Tensor grad_output = run.input({s.batch, s.queries, s.heads, s.dim});
         const auto r =
             naive::attention(s, in.query.to_vector(), in.key.to_vector(), in.value.to_vector(),
                              options_of(s, o), grad_output.to_vector());
         const Tensor output = run.input({s.batch, s.queries, s.heads, s.dim}, r.output),
                      log_sum_exp = run.input({s.batch, s.heads, s.queries}, r.log_sum_exp);
         Three grads;
         if (o.packed) {
           Tensor& packed =
               run.output("packed", {s.batch, s.queries, (s.heads + 2 * s.kv_heads) * s.dim});
           grads = views(s, packed);
         } else {
           grads = {run.output("grad_query", in.query.shape()),
                    run.output("grad_key", in.key.shape()),
                    run.output("grad_value", in.value.shape())};
         }
         kernel::attention_backward(run.device(),
                                    {in.query, in.key, in.value, output, log_sum_exp, grad_output,
                                     options_of(s, o), grads.query, grads.key, grads.value});
         if (!o.packed) {
           run.expect("grad_query", r.grad_query, 16, kCancelled);
           run.expect("grad_key", r.grad_key, 16, kCancelled);
           run.expect("grad_value", r.grad_value, 16, kCancelled);
           return;
         }
         Values all;
         for (int64_t row = 0; row < s.batch * s.queries; ++row) {
           const auto take = [&](const Values& from, int64_t width) {
             all.insert(all.end(), from.begin() + row * width, from.begin() + (row + 1) * width);
           };
           take(r.grad_query, s.heads * s.dim);
           take(r.grad_key, s.kv_heads * s.dim);
           take(r.grad_value, s.kv_heads * s.dim);
         }
         run.expect("packed", all, 16, kCancelled);
       }});
}

struct Turn {
  Shape shape;
  std::vector<int32_t> positions;  // of T rows, or of B * T
  double base = 10000;
};
std::vector<int32_t> from(int32_t first, int32_t count) {
  std::vector<int32_t> p;
  for (int32_t i = 0; i < count; ++i) p.push_back(first + i);
  return p;
}

void rope(std::vector<Case>& cases, const Turn& turn, bool inverse, int form) {
  static constexpr const char* kForms[] = {"", " in place", " strided"};
  const Shape shape = turn.shape;
  const int64_t time = shape[1], heads = shape[2], dim = shape[3], half = dim / 2;
  std::vector<double> frequencies;
  for (int64_t d = 0; d < half; ++d)
    frequencies.push_back(std::pow(turn.base, -2.0 * double(d) / double(dim)));
  const auto reference = [=](const Values& x) {
    Values y(x.size());
    for (int64_t row = 0; row < shape[0] * time * heads; ++row)
      for (int64_t d = 0; d < half; ++d) {
        const double angle =
            turn.positions[size_t(row / heads) % turn.positions.size()] * frequencies[size_t(d)];
        const double c = std::cos(angle), s = inverse ? -std::sin(angle) : std::sin(angle);
        const auto low = size_t(row * dim + d), high = size_t(row * dim + d + half);
        y[low] = x[low] * c - x[high] * s;
        y[high] = x[high] * c + x[low] * s;
      }
    return y;
  };
  cases.push_back(
      {"rope",
       fmt::format("{} {} positions from {} base {}{}{}", shape.str(), turn.positions.size(),
                   turn.positions[0], turn.base, inverse ? " inverse" : "", kForms[form]),
       [=](Execution& run) {
         Tensor positions = run.indices(turn.positions);
         if (int64_t(turn.positions.size()) != time) positions = positions.view({shape[0], time});
         const Tensor frequency = Tensor::from<double>({half}, frequencies).to(run.device());
         if (form == 1) {
           Tensor& x = run.updated("x", shape);
           const Values before = x.to_vector();
           kernel::rope(run.device(), {x, positions, frequency, inverse, x});
           run.expect("x", reference(before), 2);
           return;
         }
         Tensor x = form == 0 ? run.input(shape)
                              : run.input({shape[0], shape[1], shape[2] + 2, shape[3]})
                                    .slice(2, 1, 1 + shape[2]);
         kernel::rope(run.device(), {x, positions, frequency, inverse, run.output("y", shape)});
         run.expect("y", reference(x.to_vector()), 2);
       }});
}

std::vector<Case> cases() {
  std::vector<Case> cases;
  struct Entry {
    AttentionShape shape;
    Options options;
  };
  for (const Entry& e : {
           Entry{{1, 1, 1, 1, 1, 1}, {}},
           {{1, 3, 3, 1, 1, 7}, {}},
           {{2, 7, 7, 3, 3, 3}, {true}},
           {{2, 17, 17, 4, 4, 32}, {true}},
           {{3, 64, 64, 4, 4, 32}, {true}},
           {{2, 33, 33, 4, 2, 16}, {true}},
           {{1, 65, 65, 6, 2, 64}, {true}},
           {{1, 100, 100, 2, 1, 33}, {}},
           {{1, 129, 129, 2, 2, 48}, {}},
           {{1, 300, 300, 1, 1, 17}, {}},
           {{1, 257, 257, 2, 1, 128}, {true}},
           {{2, 1, 1, 2, 2, 16}, {}},
           {{2, 1, 34, 4, 2, 32}, {false, 0, 33}},
           {{1, 5, 100, 2, 2, 24}, {false, 0, 95}},
           {{1, 5, 100, 2, 2, 24}, {false, 0, 40}},  // keys beyond the last query: nobody sees them
           {{1, 40, 333, 2, 1, 16}, {false, 0, 290}},
           {{2, 33, 33, 4, 2, 16}, {true, 0.2}},
           {{1, 70, 70, 2, 2, 20}, {false, 0.5}},
           {{1, 40, 133, 2, 1, 16}, {false, 0.3, 93}},
           {{1, 20, 20, 4, 2, 16}, {true, 0, 0, 1.5}},
           {{1, 70, 70, 2, 1, 64}, {true, 0.3, 0, 0.5}},
           {{1, 1, 90, 2, 1, 16}, {false, 0, 89, 1, 50}},
           {{2, 9, 9, 2, 2, 8}, {true, 0, 0, 0, 1}},
           {{1, 200, 200, 2, 1, 16}, {true, 0, 0, 0, 64}},
           {{1, 200, 200, 1, 1, 20}, {false, 0, 0, 2, 65}},
           {{1, 150, 150, 4, 1, 256}, {true, 0, 0, 5, 37}},
           {{1, 140, 140, 2, 1, 33}, {true, 0.2, 0, 0, 3}},
           {{1, 2, 300, 2, 1, 16}, {false, 0.4, 290, 0, 70}},
           {{1, 5, 300, 2, 2, 24}, {false, 0, 250, 0, 10}},  // most keys: nobody sees them
           {{1, 70, 400, 2, 1, 16}, {false, 0, 310, 3, 129}},
           {{1, 12, 12, 1, 1, 8}, {false, 0, 0, 0, 1000}},
       }) {
    forward(cases, e.shape, e.options);
    backward(cases, e.shape, e.options);
  }
  for (int form : {0, 1, 2})
    for (bool inverse : {false, true}) {
      rope(cases, {{2, 7, 3, 2}, from(0, 7)}, inverse, form);
      rope(cases, {{1, 17, 2, 34}, from(1000, 17)}, inverse, form);
      rope(cases, {{3, 33, 4, 64}, from(5, 33), 1e6}, inverse, form);
      rope(cases, {{1, 4, 2, 6}, {9, 3, 100000, 3}}, inverse, form);  // far apart
      rope(cases, {{2, 3, 1, 8}, {4, 5, 6, 2, 3, 4}}, inverse, form);
      rope(cases, {{2, 3, 2, 10}, {7, 7, 8, 0, 2000000000, 1}}, inverse, form);
    }
  return cases;
}

void refusals(Refusals& r) {
  Tensor q = f32({2, 3, 4, 8}), k = f32({2, 5, 2, 8}), out = f32({2, 3, 4, 8}),
         lse = f32({2, 4, 3}), gk = f32({2, 5, 2, 8});
  r.accepts(kernel::attention_forward, {q, k, k, {1, 2}, out, lse});
  r.refuses(kernel::attention_forward, {q, k, k, {1, 3}, out, lse},
            "queries at positions 3..5 need as many keys, got 5");
  r.refuses(kernel::attention_forward, {q, f32({2, 5, 3, 8}), f32({2, 5, 3, 8}), {}, out, lse},
            "not a multiple");
  r.refuses(kernel::attention_forward, {q, k, f32({2, 4, 2, 8}), {}, out, lse}, "value");
  r.refuses(kernel::attention_forward, {q, k, k, {1, 0, 1.5}, out, lse}, "p is 1.5");
  r.refuses(kernel::attention_forward, {q.transpose(2, 3), k, k, {}, out, lse},
            "the last dimension of query");
  r.refuses(kernel::attention_backward, {q, k, k, out, lse, out, {}, out, gk, q}, "grad_value");
  r.refuses(kernel::attention_forward, {q, k, k, {1, 2, 0, 0, 0, -1}, out, lse}, "softcap is -1");
  r.refuses(kernel::attention_forward, {q, k, k, {1, 2, 0, 0, 0, 0, -4}, out, lse}, "window is -4");
  Tensor odd = f32({1, 2, 1, 3}), frequencies = f64({4});
  r.refuses(kernel::rope, {odd, i32({0, 1}), frequencies, false, odd}, "even number");
  r.accepts(kernel::rope, {q, i32({0, 1, 2}), frequencies, false, q});
  r.refuses(kernel::rope, {q, i32({0, 1, -2}), frequencies, false, q}, "positions[2] is -2");
  r.refuses(kernel::rope, {q, i32({0, 1, 2, 3}), frequencies, false, q}, "wanted [3] or [2, 3]");
  r.refuses(kernel::rope, {q, i32({0, 1, 2}).view({3, 1}), frequencies, false, q},
            "wanted [3] or [2, 3]");
  r.refuses(kernel::rope, {q, i32({0, 1, 2}), f64({8}), false, q},
            "frequencies is f64[8] cpu; wanted f64[4]");
  r.refuses(kernel::rope, {q, i32({0, 1, 2}), f32({4}), false, q}, "wanted f64[4]");
  r.refuses(kernel::rope, {q, f32({3}), frequencies, false, q}, "wanted i32");
}

const CaseFile file(cases, refusals);

}  // namespace
}  // namespace reverie::test
