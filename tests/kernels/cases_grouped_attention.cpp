#include <cmath>

#include "kernels/attention.h"
#include "kernels/case.h"
#include "kernels/naive.h"
#include "kernels/refusals.h"

namespace reverie::test {
namespace {

using naive::GroupedShape;

struct Entry {
  GroupedShape shape;
  double softcap = 0;
  int64_t window = 0;
  bool cached = false;  // the context is a slice of a larger cache, with more heads beside it
};
enum class Wanted { all, groups_only, query_only, context_only };

std::string name_of_case(const Entry& e, const char* suffix) {
  const GroupedShape& s = e.shape;
  return fmt::format(
      "B{} G{} S{}{} T{} H{}/{} D{}{}{}{}{}", s.batch, s.groups, s.size,
      s.asking > 0 ? fmt::format(" asked by {}", s.asking) : "", s.context, s.heads, s.kv_heads,
      s.dim, e.softcap > 0 ? fmt::format(" capped at {}", e.softcap) : "",
      e.window > 0 ? fmt::format(" window {}", e.window) : "", e.cached ? " cached" : "", suffix);
}
AttentionOptions options_of(const Entry& e) {
  AttentionOptions o;
  o.scale = 1 / std::sqrt(double(e.shape.dim));
  o.softcap = e.softcap;
  o.window = e.window;
  return o;
}

struct Inputs {
  Tensor query, key, value, context_key, context_value, limits;
  std::vector<int32_t> limit_values;
};
// With the least and the greatest limit, equal ones, and no order.
Inputs inputs(Execution& run, const Entry& e) {
  const GroupedShape& s = e.shape;
  const auto context = [&] {
    if (!e.cached) return run.input({s.batch, s.context, s.kv_heads, s.dim});
    return run.input({s.batch, s.context + 5, s.kv_heads + 1, s.dim})
        .slice(1, 2, 2 + s.context)
        .slice(2, 1, 1 + s.kv_heads);
  };
  Inputs in{run.input({s.batch, s.queries(), s.heads, s.dim}),
            run.input({s.batch, s.rows(), s.kv_heads, s.dim}),
            run.input({s.batch, s.rows(), s.kv_heads, s.dim}),
            context(),
            context(),
            {},
            {}};
  for (int64_t i = 0; i < s.batch * s.groups; ++i)
    in.limit_values.push_back(i == 1   ? int32_t(s.context)
                              : i == 2 ? 0
                                       : int32_t((i * 7919 + 13) % (s.context + 1)));
  in.limits = run.indices(in.limit_values).view({s.batch, s.groups});
  return in;
}
naive::GroupedResult reference(const Entry& e, const Inputs& in, const Values& grad_output = {}) {
  return naive::grouped_attention(e.shape, in.query.to_vector(), in.key.to_vector(),
                                  in.value.to_vector(), in.context_key.to_vector(),
                                  in.context_value.to_vector(), in.limit_values, options_of(e),
                                  grad_output);
}

void forward(std::vector<Case>& cases, const Entry& e) {
  cases.push_back(
      {"grouped_attention_forward", name_of_case(e, ""), [=](Execution& run) {
         const GroupedShape& s = e.shape;
         const Inputs in = inputs(run, e);
         Tensor &output = run.output("output", in.query.shape()),
                &log_sum_exp = run.output("log_sum_exp", {s.batch, s.heads, s.queries()});
         kernel::grouped_attention_forward(
             run.device(), {in.query, in.key, in.value, in.context_key, in.context_value, in.limits,
                            options_of(e), output, log_sum_exp});
         const auto r = reference(e, in);
         run.expect("output", r.output, 4);
         run.expect("log_sum_exp", r.log_sum_exp, 4);
       }});
}

void backward(std::vector<Case>& cases, const Entry& e, Wanted wanted) {
  static constexpr const char* kSuffix[] = {"", " groups only", " query only", " context only"};
  cases.push_back(
      {"grouped_attention_backward", name_of_case(e, kSuffix[int(wanted)]), [=](Execution& run) {
         const GroupedShape& s = e.shape;
         const Inputs in = inputs(run, e);
         const Tensor grad_output = run.input(in.query.shape());
         const auto r = reference(e, in, grad_output.to_vector());
         const Tensor output = run.input(in.query.shape(), r.output),
                      log_sum_exp = run.input({s.batch, s.heads, s.queries()}, r.log_sum_exp);
         Tensor undefined[5];
         const auto gradient = [&](int i, const char* name, const Tensor& like,
                                   const Values& expected) -> Tensor& {
           if (wanted == Wanted::groups_only && i > 2) return undefined[i];
           if (wanted == Wanted::query_only && i > 0) return undefined[i];
           if (wanted == Wanted::context_only && i < 3) return undefined[i];
           Tensor& t = run.output(name, like.shape());
           run.expect(name, expected, 16, 0.01);
           return t;
         };
         kernel::grouped_attention_backward(
             run.device(),
             {in.query, in.key, in.value, in.context_key, in.context_value, in.limits, output,
              log_sum_exp, grad_output, options_of(e),
              gradient(0, "grad_query", in.query, r.grad_query),
              gradient(1, "grad_key", in.key, r.grad_key),
              gradient(2, "grad_value", in.value, r.grad_value),
              gradient(3, "grad_context_key", in.context_key, r.grad_context_key),
              gradient(4, "grad_context_value", in.context_value, r.grad_context_value)});
       }});
}

std::vector<Case> cases() {
  std::vector<Case> cases;
  for (const Entry& e : {
           Entry{{1, 1, 1, 1, 1, 1, 1}},
           {{2, 3, 2, 5, 2, 2, 3}},
           {{1, 7, 5, 20, 4, 2, 16}},
           {{2, 9, 8, 70, 3, 1, 17}, 0, 0, true},
           {{1, 40, 12, 130, 3, 3, 8}},               // several chunks
           {{1, 3, 70, 65, 2, 1, 33}},                // groups longer than a block
           {{1, 2, 130, 10, 2, 2, 20}, 0, 30},        //
           {{1, 30, 6, 200, 4, 1, 64}, 2, 0, true},   //
           {{1, 3, 4, 100, 4, 1, 256}, 0, 0},         //
           {{1, 25, 7, 150, 2, 1, 24}, 0, 40},        //
           {{2, 11, 9, 90, 2, 2, 16}, 0.7, 5, true},  // a window within the group
           {{1, 6, 3, 50, 2, 1, 8}, 0, 2},
           {{1, 5, 4, 64, 6, 2, 32}, 0, 1000},
           {{2, 9, 8, 70, 4, 2, 16, 3}, 0, 0, true},  // the last 3 of 8 rows ask
           {{1, 3, 70, 65, 2, 1, 33, 69}},            //
           {{1, 40, 5, 90, 2, 1, 24, 1}, 0.7, 4},     //
       }) {
    forward(cases, e);
    backward(cases, e, Wanted::all);
  }
  // Each row sees itself only; gradients that must be nothing are nothing but rounding errors.
  forward(cases, {{1, 6, 3, 50, 2, 1, 8}, 0, 1});
  for (Wanted w : {Wanted::groups_only, Wanted::query_only, Wanted::context_only}) {
    backward(cases, {{2, 30, 12, 80, 4, 2, 16}}, w);
    backward(cases, {{1, 5, 6, 40, 2, 1, 20}, 1.5, 9}, w);
  }
  return cases;
}

void refusals(Refusals& r) {
  Tensor q = f32({2, 6, 4, 8}), k = f32({2, 6, 2, 8}), context = f32({2, 5, 2, 8}),
         out = f32({2, 6, 4, 8}), lse = f32({2, 4, 6}), undefined;
  const Tensor limits = i32({0, 1, 5, 2, 2, 3}).view({2, 3});
  const auto forward = [&](const Tensor& key, const Tensor& ck, const Tensor& cv, const Tensor& l,
                           const AttentionOptions& options = {}) {
    return GroupedAttentionForward{q, key, key, ck, cv, l, options, out, lse};
  };
  r.accepts(kernel::grouped_attention_forward, forward(k, context, context, limits));
  r.refuses(kernel::grouped_attention_forward,
            forward(k, context, context, i32({0, 1, 6, 2, 2, 3}).view({2, 3})),
            "limits[2] is 6; wanted 0 <= index < 6");
  r.refuses(kernel::grouped_attention_forward,
            forward(k, context, context, i32({0, 1, -1, 2, 2, 3}).view({2, 3})), "limits[2] is -1");
  r.refuses(kernel::grouped_attention_forward,
            forward(k, context, context, i32({0, 1, 1, 2, 2, 3})), "wanted [2, groups]");
  r.refuses(kernel::grouped_attention_forward,
            forward(k, context, context, i32({0, 1, 1, 2, 2, 3, 3, 3}).view({2, 4})),
            "where the groups share 6 queries and 6 keys evenly");
  r.refuses(kernel::grouped_attention_forward, forward(k, context, context, f32({2, 3})),
            "wanted i32");
  r.refuses(kernel::grouped_attention_forward, forward(f32({2, 6, 3, 8}), context, context, limits),
            "not a multiple");
  r.refuses(kernel::grouped_attention_forward, forward(f32({2, 5, 2, 8}), context, context, limits),
            "differ in batch or head_dim");
  r.refuses(kernel::grouped_attention_forward, forward(k, f32({1, 5, 2, 8}), context, limits),
            "context_key");
  r.refuses(kernel::grouped_attention_forward, forward(k, context, f32({2, 4, 2, 8}), limits),
            "context_value");
  r.refuses(kernel::grouped_attention_forward, forward(k, f64({2, 5, 2, 8}), context, limits),
            "one dtype");
  r.refuses(kernel::grouped_attention_forward, forward(k, context, context, limits, {1, 3}),
            "no first position (3)");
  r.refuses(kernel::grouped_attention_forward, forward(k, context, context, limits, {1, 0, 0.5}),
            "no dropout (0.5)");
  r.refuses(kernel::grouped_attention_forward,
            forward(k, context, context, limits, {1, 0, 0, 0, 0, 0, -1}), "window is -1");
  const auto backward = [&](Tensor& grad_key, Tensor& grad_context) {
    return GroupedAttentionBackward{q,   k,  k,   context,  context, limits,       out,    lse,
                                    out, {}, out, grad_key, k,       grad_context, context};
  };
  r.accepts(kernel::grouped_attention_backward, backward(k, context));
  r.accepts(kernel::grouped_attention_backward, backward(undefined, undefined));
  r.refuses(kernel::grouped_attention_backward, backward(context, context), "grad_key");
  r.refuses(kernel::grouped_attention_backward, backward(k, k), "grad_context_key");
}

const CaseFile file(cases, refusals);

}  // namespace
}  // namespace reverie::test
