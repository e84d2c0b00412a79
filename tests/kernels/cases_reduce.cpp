#include "kernels/case.h"
#include "kernels/reduce.h"
#include "kernels/refusals.h"

namespace reverie::test {
namespace {

struct Layout {
  int64_t outer, dim, inner;
  Shape shape() const { return {outer, dim, inner}; }
  std::string name() const { return fmt::format("{}x{}x{}", outer, dim, inner); }
  size_t at(int64_t o, int64_t d, int64_t i) const { return size_t((o * dim + d) * inner + i); }
};
constexpr Layout kLayouts[] = {{1, 1, 1},    {1, 7, 1},   {17, 33, 1},  {1, 100000, 1},
                               {3, 1025, 1}, {1, 65, 17}, {1, 777, 65}, {3, 100, 33},
                               {12, 64, 7},  {65, 1, 3},  {700, 65, 1}};

void sums(std::vector<Case>& cases, Layout l, bool accumulate) {
  cases.push_back(
      {"sum_forward", l.name() + (accumulate ? " accumulate" : ""), [=](Execution& run) {
         const Tensor x = run.input(l.shape(), 1, 0.5);
         Tensor& y = accumulate ? run.updated("y", {l.outer, l.inner})
                                : run.output("y", {l.outer, l.inner});
         Values total = accumulate ? y.to_vector() : Values(size_t(l.outer * l.inner));
         kernel::sum_forward(run.device(), {x, l.outer, l.dim, l.inner, 0.125, accumulate, y});
         const Values in = x.to_vector();
         for (int64_t o = 0; o < l.outer; ++o)
           for (int64_t d = 0; d < l.dim; ++d)
             for (int64_t i = 0; i < l.inner; ++i)
               total[size_t(o * l.inner + i)] += 0.125 * in[l.at(o, d, i)];
         run.expect("y", total, 4);
       }});
}

void scans(std::vector<Case>& cases, Layout l, bool reverse, bool with_initial) {
  cases.push_back(
      {"cumulative_sum", l.name() + (reverse ? " reverse" : "") + (with_initial ? " initial" : ""),
       [=](Execution& run) {
         const Tensor x = run.input(l.shape()),
                      initial = with_initial ? run.input({l.outer, l.inner}) : Tensor();
         kernel::cumulative_sum(run.device(), {x, l.outer, l.dim, l.inner, reverse, initial,
                                               run.output("y", l.shape())});
         const Values in = x.to_vector(), start = with_initial ? initial.to_vector() : Values();
         Values y(in.size());
         for (int64_t o = 0; o < l.outer; ++o)
           for (int64_t i = 0; i < l.inner; ++i) {
             double total = with_initial ? start[size_t(o * l.inner + i)] : 0;
             for (int64_t d = 0; d < l.dim; ++d) {
               const size_t at = l.at(o, reverse ? l.dim - 1 - d : d, i);
               y[at] = total += in[at];
             }
           }
         run.expect("y", y, 20);  // a running sum rounds at every step
       }});
}

std::vector<Case> cases() {
  std::vector<Case> cases;
  for (Layout l : kLayouts) {
    sums(cases, l, false);
    sums(cases, l, true);
    if (l.dim <= 2000) {
      scans(cases, l, false, false);
      scans(cases, l, false, true);
      scans(cases, l, true, false);
    }
    cases.push_back({"repeat", l.name(), [=](Execution& run) {
                       const Tensor grad_y = run.input({l.outer, l.inner});
                       kernel::repeat(run.device(), {grad_y, l.outer, l.dim, l.inner, -0.5,
                                                     run.output("grad_x", l.shape())});
                       const Values in = grad_y.to_vector();
                       Values out(size_t(l.shape().numel()));
                       for (int64_t o = 0; o < l.outer; ++o)
                         for (int64_t d = 0; d < l.dim; ++d)
                           for (int64_t i = 0; i < l.inner; ++i)
                             out[l.at(o, d, i)] = -0.5 * in[size_t(o * l.inner + i)];
                       run.expect("grad_x", out);
                     }});
  }
  for (int64_t n : {1, 3, 7, 17, 33, 65, 100, 16384, 100003}) {
    cases.push_back({"sum_squares", fmt::format("n{}", n), [=](Execution& run) {
                       const Tensor x = run.input({n});
                       Tensor& result = run.updated("result", {1}, true);
                       double total = result.item();
                       kernel::sum_squares(run.device(), {x, result});
                       for (double v : x.to_vector()) total += v * v;
                       run.expect("result", {total}, 4);
                     }});
  }
  return cases;
}

void refusals(Refusals& r) {
  Tensor x = f32({2, 3, 4}), y = f32({2, 4}), z = f32({2, 3, 4}), initial = f32({2, 4}), none_,
         result = f64({1}), small = f32({1});
  r.accepts(kernel::sum_forward, {x, 2, 3, 4, 1, false, y});
  r.refuses(kernel::sum_forward, {x, 2, 2, 4, 1, false, y}, "sum_forward: x");
  r.refuses(kernel::sum_forward, {x, 2, 3, 4, 1, false, z}, "sum_forward: y");
  r.refuses(kernel::repeat, {y, 2, 3, 5, 1, z}, "repeat: grad_y");
  r.refuses(kernel::cumulative_sum, {x, 2, 3, 4, true, initial, z}, "reverse");
  r.refuses(kernel::cumulative_sum, {x, 2, 3, 4, false, x, z}, "initial");
  r.refuses(kernel::sum_squares, {x, small}, "wanted f64[1]");
  r.accepts(kernel::sum_squares, {x, result});
}

const CaseFile file(cases, refusals);

}  // namespace
}  // namespace reverie::test
