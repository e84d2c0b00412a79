#include "kernels/case.h"
#include "kernels/conv1d.h"
#include "kernels/refusals.h"

namespace reverie::test {
namespace {

struct Sizes {
  int64_t batch, time, channels, taps;
  Shape rows() const { return {batch, time, channels}; }
  Shape context() const { return {batch, taps - 1, channels}; }
  std::string name() const { return fmt::format("{}x{}x{} taps {}", batch, time, channels, taps); }
};
constexpr Sizes kSizes[] = {{1, 1, 1, 1},  {2, 7, 3, 4},    {1, 2, 5, 6},  {3, 17, 65, 4},
                            {2, 33, 7, 1}, {2, 100, 96, 2}, {1, 700, 9, 3}};

// body(b, t, s, c, k): y[b, t, c] sees tap k of row s of x, or of the context where s < 0.
template <class Body>
void for_each_product(const Sizes& n, const Body& body) {
  for (int64_t b = 0; b < n.batch; ++b)
    for (int64_t t = 0; t < n.time; ++t)
      for (int64_t c = 0; c < n.channels; ++c)
        for (int64_t k = 0; k < n.taps; ++k) body(b, t, t - n.taps + 1 + k, c, k);
}
size_t in_rows(const Sizes& n, int64_t b, int64_t t, int64_t c) {
  return size_t((b * n.time + t) * n.channels + c);
}
size_t in_context(const Sizes& n, int64_t b, int64_t s, int64_t c) {
  return size_t((b * (n.taps - 1) + n.taps - 1 + s) * n.channels + c);
}

void forward(Execution& run, const Sizes& n, bool with_bias, bool with_context) {
  const Tensor x = run.input(n.rows()), weight = run.input({n.channels, n.taps}),
               bias = with_bias ? run.input({n.channels}) : Tensor(),
               context = with_context ? run.input(n.context()) : Tensor();
  kernel::conv1d_forward(run.device(), {x, weight, bias, context, run.output("y", n.rows())});
  const Values in = x.to_vector(), w = weight.to_vector(),
               before = with_context ? context.to_vector() : Values(size_t(n.context().numel()));
  Values y(in.size());
  for (size_t i = 0; i < y.size() && with_bias; ++i)
    y[i] = bias.to_vector()[i % size_t(n.channels)];
  for_each_product(n, [&](int64_t b, int64_t t, int64_t s, int64_t c, int64_t k) {
    const double row = s < 0 ? before[in_context(n, b, s, c)] : in[in_rows(n, b, s, c)];
    y[in_rows(n, b, t, c)] += w[size_t(c * n.taps + k)] * row;
  });
  run.expect("y", y, 2);
}

void backward(Execution& run, const Sizes& n, bool with_context) {
  const Tensor x = run.input(n.rows()), weight = run.input({n.channels, n.taps}),
               context = with_context ? run.input(n.context()) : Tensor(),
               grad_y = run.input(n.rows());
  Tensor &grad_x = run.output("grad_x", n.rows()),
         &grad_weight = run.output("grad_weight", {n.channels, n.taps}), unwanted;
  Tensor& grad_context = with_context ? run.output("grad_context", n.context()) : unwanted;
  kernel::conv1d_backward(run.device(),
                          {x, weight, context, grad_y, grad_x, grad_weight, grad_context});
  const Values in = x.to_vector(), w = weight.to_vector(), g = grad_y.to_vector(),
               before = with_context ? context.to_vector() : Values(size_t(n.context().numel()));
  Values of_x(in.size()), of_weight(w.size()), of_context(before.size());
  for_each_product(n, [&](int64_t b, int64_t t, int64_t s, int64_t c, int64_t k) {
    const double row = s < 0 ? before[in_context(n, b, s, c)] : in[in_rows(n, b, s, c)];
    const double gradient = g[in_rows(n, b, t, c)];
    of_weight[size_t(c * n.taps + k)] += gradient * row;
    (s < 0 ? of_context[in_context(n, b, s, c)] : of_x[in_rows(n, b, s, c)]) +=
        gradient * w[size_t(c * n.taps + k)];
  });
  run.expect("grad_x", of_x, 2);
  run.expect("grad_weight", of_weight, 8);  // a sum over batch and time
  if (with_context) run.expect("grad_context", of_context, 2);
}

std::vector<Case> cases() {
  std::vector<Case> cases;
  for (const Sizes& n : kSizes)
    for (const bool with_context : {false, true}) {
      const std::string name = n.name() + (with_context ? " context" : "");
      for (const bool with_bias : {false, true})
        cases.push_back({"conv1d_forward", name + (with_bias ? " bias" : ""),
                         [=](Execution& run) { forward(run, n, with_bias, with_context); }});
      cases.push_back(
          {"conv1d_backward", name, [=](Execution& run) { backward(run, n, with_context); }});
    }
  return cases;
}

void refusals(Refusals& r) {
  Tensor x = f32({2, 5, 3}), weight = f32({3, 4}), context = f32({2, 3, 3}), y = f32({2, 5, 3}),
         none, flat = f32({10, 3}), short_ = f32({2, 4, 3});
  r.accepts(kernel::conv1d_forward, {x, weight, none, none, y});
  r.accepts(kernel::conv1d_forward, {x, weight, f32({3}), context, y});
  r.refuses(kernel::conv1d_forward, {flat, weight, none, none, y},
            "conv1d_forward: x is f32[10, 3] cpu; wanted [batch, time, channels]");
  r.refuses(kernel::conv1d_forward, {x, f32({4, 3}), none, none, y},
            "weight is f32[4, 3] cpu; wanted [3, taps], at least one tap");
  r.refuses(kernel::conv1d_forward, {x, f32({3, 0}), none, none, y}, "at least one tap");
  r.refuses(kernel::conv1d_forward, {x, f64({3, 4}), none, none, y}, "one dtype");
  r.refuses(kernel::conv1d_forward, {x, weight, f32({4}), none, y},
            "bias is f32[4] cpu; wanted [3]");
  r.refuses(kernel::conv1d_forward, {x, weight, none, f32({2, 4, 3}), y},
            "context is f32[2, 4, 3] cpu; wanted [2, 3, 3]");
  r.refuses(kernel::conv1d_forward, {x, weight, none, none, short_}, "conv1d_forward: y");
  r.accepts(kernel::conv1d_backward, {x, weight, none, y, none, weight, none});
  r.refuses(kernel::conv1d_backward, {x, weight, none, short_, x, weight, none}, "grad_y");
  r.refuses(kernel::conv1d_backward, {x, weight, none, y, short_, weight, none}, "grad_x");
  r.refuses(kernel::conv1d_backward, {x, weight, none, y, x, y, none}, "grad_weight");
  r.refuses(kernel::conv1d_backward, {x, weight, none, y, x, weight, context},
            "conv1d_backward: context is undefined");
}

const CaseFile file(cases, refusals);

}  // namespace
}  // namespace reverie::test
