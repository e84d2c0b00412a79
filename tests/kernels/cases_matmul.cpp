#include <omp.h>

#include "kernels/case.h"
#include "kernels/matmul.h"
#include "kernels/naive.h"
#include "kernels/refusals.h"

namespace reverie::test {
namespace {

struct Sizes {
  int64_t batch, m, n, k;  // batch 0: rank 2
};
struct Options {
  bool a_transposed = false, b_transposed = false, shared_b = false, accumulate = false,
       padded = false, bf16 = false;
  GemmChoice choice = GemmChoice::library;
};

std::string name_of_case(Sizes s, Options o) {
  return fmt::format("{}x{}x{}x{}{}{}{}{}{}{}{}", s.batch, s.m, s.n, s.k,
                     o.a_transposed ? " a^T" : "", o.b_transposed ? " b^T" : "",
                     o.shared_b ? " shared b" : "", o.accumulate ? " accumulate" : "",
                     o.padded ? " padded" : "", o.bf16 ? " bf16" : "",
                     o.choice == GemmChoice::own ? " own" : "");
}

Shape with_batch(int64_t batch, int64_t rows, int64_t columns) {
  return batch == 0 ? Shape{rows, columns} : Shape{batch, rows, columns};
}

// A [rows, columns] operand: stored so, or transposed, or as columns of a wider tensor.
Tensor operand(Execution& run, int64_t batch, int64_t rows, int64_t columns, bool transposed,
               bool padded, bool bf16) {
  const int64_t stored_rows = transposed ? columns : rows,
                stored_columns = transposed ? rows : columns;
  Tensor t = run.input(with_batch(batch, stored_rows, stored_columns + (padded ? 5 : 0)));
  if (bf16) t = t.to(DType::bf16);
  if (padded) t = t.slice(-1, 2, 2 + stored_columns);
  return transposed ? t.transpose(-1, -2) : t;
}

void run_case(Execution& run, Sizes s, Options o) {
  const GemmChoice before = gemm();
  if (o.choice == GemmChoice::own) set_gemm(GemmChoice::own);
  const bool bf16 = o.bf16 && run.dtype() == DType::f32;  // c is f32 then
  const Tensor a = operand(run, s.batch, s.m, s.k, o.a_transposed, o.padded, bf16);
  const Tensor b = operand(run, o.shared_b ? 0 : s.batch, s.k, s.n, o.b_transposed, o.padded, bf16);
  Tensor& base = o.accumulate || o.padded
                     ? run.updated("c", with_batch(s.batch, s.m, s.n + (o.padded ? 3 : 0)))
                     : run.output("c", with_batch(s.batch, s.m, s.n));
  Values expected = o.accumulate || o.padded ? base.to_vector() : Values(size_t(base.numel()));
  Tensor c = o.padded ? base.slice(-1, 1, 1 + s.n) : base;
  kernel::matmul(run.device(), {a, b, 0.5, o.accumulate, c});
  set_gemm(before);
  const Values left = a.to_vector(), right = b.to_vector();
  const int64_t width = base.size(-1), shift = o.padded ? 1 : 0;
  for (int64_t i = 0; i < std::max<int64_t>(1, s.batch); ++i) {
    const auto part = [&](const Values& all, int64_t count, bool shared) {
      const int64_t from = shared ? 0 : i * count;
      return Values(all.begin() + from, all.begin() + from + count);
    };
    const Values product = naive::matmul(part(left, s.m * s.k, false),
                                         part(right, s.k * s.n, o.shared_b), s.m, s.n, s.k);
    for (int64_t row = 0; row < s.m; ++row)
      for (int64_t column = 0; column < s.n; ++column) {
        double& to = expected[size_t((i * s.m + row) * width + shift + column)];
        to = (o.accumulate ? to : 0) + 0.5 * product[size_t(row * s.n + column)];
      }
  }
  run.expect("c", expected, 4);
}

// The products of a linear layer's backward pass, from g [rows, out], x [rows, in] and w [out, in],
// by two threads: those that multiply side by side.
void run_pair_case(Execution& run, Sizes s, Options o) {
  const GemmChoice before = gemm();
  const int threads = omp_get_max_threads();
  set_gemm(o.choice);
  omp_set_num_threads(2);
  const int64_t rows = s.m, in = s.n, out = s.k;
  const bool bf16 = o.bf16 && run.dtype() == DType::f32;
  const Tensor g = operand(run, 0, rows, out, false, false, bf16),
               x = operand(run, 0, rows, in, false, false, bf16),
               w = operand(run, 0, out, in, false, false, bf16);
  Tensor &grad_w =
             o.accumulate ? run.updated("grad_w", {out, in}) : run.output("grad_w", {out, in}),
         &grad_x = run.output("grad_x", {rows, in});
  const Values base = o.accumulate ? grad_w.to_vector() : Values(size_t(grad_w.numel()));
  kernel::matmul_pair(run.device(), {{g.transpose(0, 1), x, 1.0, o.accumulate, grad_w},
                                     {g, w, 0.5, false, grad_x}});
  omp_set_num_threads(threads);
  set_gemm(before);
  Values expected_w = naive::matmul(g.transpose(0, 1).contiguous().to_vector(), x.to_vector(), out,
                                    in, rows),
         expected_x = naive::matmul(g.to_vector(), w.to_vector(), rows, in, out);
  for (size_t i = 0; i < base.size(); ++i) expected_w[i] += base[i];
  for (double& value : expected_x) value *= 0.5;
  run.expect("grad_w", expected_w, 4);
  run.expect("grad_x", expected_x, 4);
}

std::vector<Case> cases() {
  std::vector<Case> cases;
  const auto add = [&](Sizes s, Options o) {
    cases.push_back({"matmul", name_of_case(s, o), [=](Execution& run) { run_case(run, s, o); }});
  };
  for (GemmChoice choice : {gemm(), GemmChoice::own}) {
    for (Sizes s : {Sizes{0, 1, 1, 1},
                    {0, 3, 7, 1},
                    {0, 1, 65, 33},
                    {0, 65, 1, 17},
                    {0, 7, 3, 100},
                    {0, 33, 17, 65},
                    {0, 100, 100, 100},
                    {0, 65, 65, 300},
                    {0, 301, 65, 129},
                    {0, 40, 300, 600},
                    {1, 7, 7, 7},
                    {3, 17, 11, 33},
                    {12, 64, 11, 32},
                    // Few rows: of one vector, of whole groups and blocks, of what is left of them.
                    {0, 1, 1, 1},
                    {0, 1, 70, 2100},
                    {0, 2, 259, 67},
                    {0, 4, 4100, 21},
                    {0, 5, 64, 128},
                    {0, 8, 131, 257},
                    {0, 9, 131, 257},
                    {4, 2, 65, 129},
                    {2, 100, 129, 65}}) {
      for (bool a_transposed : {false, true})
        for (bool b_transposed : {false, true}) {
          for (bool bf16 : {false, true}) {
            Options o{a_transposed, b_transposed};
            o.choice = choice;
            o.bf16 = bf16;
            add(s, o);
            o.accumulate = true;
            o.padded = true;
            add(s, o);
            if (s.batch > 0) {
              o.shared_b = true;
              add(s, o);
              o.accumulate = o.padded = false;
              add(s, o);
            }
          }
        }
    }
    for (Sizes s : {Sizes{0, 3, 5, 7}, {0, 96, 64, 65}, {0, 129, 70, 33}})
      for (bool bf16 : {false, true})
        for (bool accumulate : {false, true}) {
          Options o;
          o.choice = choice;
          o.bf16 = bf16;
          o.accumulate = accumulate;
          cases.push_back({"matmul_pair", name_of_case(s, o),
                           [=](Execution& run) { run_pair_case(run, s, o); }});
        }
    Options o;
    o.choice = choice;
    add({0, 3, 5, 0}, o);  // an empty sum is zero
    o.accumulate = true;
    add({0, 3, 5, 0}, o);
  }
  return cases;
}

void refusals(Refusals& r) {
  Tensor a = f32({2, 3}), b = f32({3, 4}), c = f32({2, 4});
  r.accepts(kernel::matmul, {a, b, 1, false, c});
  r.refuses(kernel::matmul, {a, f32({4, 4}), 1, false, c}, "has 3 columns but b");
  r.refuses(kernel::matmul, {a, f64({3, 4}), 1, false, c}, "one dtype");
  Tensor tall = f32({3, 4}), turned = f32({4, 2}).transpose(0, 1), cube = f32({2, 2, 4});
  r.refuses(kernel::matmul, {a, b, 1, false, tall}, "c is");
  r.refuses(kernel::matmul, {a, b, 1, false, turned}, "must be row-major");
  r.refuses(kernel::matmul, {a, b, 1, false, cube}, "differ in rank");
  r.refuses(kernel::matmul, {f32({3, 2, 3}), f32({2, 3, 4}), 1, false, cube}, "batches");
  const Tensor skipping = f32({2, 3, 2}).select(2, 0);
  r.refuses(kernel::matmul, {skipping, b, 1, false, c}, "neither row-major nor transposed");
  Tensor other = f32({2, 4});
  r.accepts(kernel::matmul_pair, {{a, b, 1, false, c}, {a, b, 1, false, other}});
  r.refuses(kernel::matmul_pair, {{a, b, 1, false, c}, {a, b, 1, false, tall}},
            "matmul: c is f32[3, 4] cpu; wanted 2 rows and 4 columns");
}

const CaseFile file(cases, refusals);

}  // namespace
}  // namespace reverie::test
