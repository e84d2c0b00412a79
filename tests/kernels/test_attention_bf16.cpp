// Attention with products in bf16, on every instruction set of this machine and on cuda (there by
// tensor cores), against the naive reference: what is not rounded on the way is right to f32's
// precision, the rest within what rounding its weights can do.

#include <gtest/gtest.h>
#include <omp.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/cuda.h"
#include "core/error.h"
#include "core/random.h"
#include "kernels/attention.h"
#include "kernels/naive.h"
#if defined(REVERIE_CUDA_EMULATED)
#include "kernels/cuda/emulation/emulation.h"
#endif

namespace reverie::test {
namespace {

using naive::AttentionResult;
using naive::AttentionShape;
using Values = std::vector<double>;

struct Problem {
  AttentionShape shape;
  AttentionOptions options;
};
Problem problem(const AttentionShape& s, int64_t first_position = 0, double dropout = 0,
                double softcap = 0, int64_t window = 0) {
  AttentionOptions o;
  o.scale = 1 / std::sqrt(double(s.dim));
  o.first_position = first_position;
  o.dropout_p = dropout;
  o.seed = 77;
  o.offset = 4294967295;
  o.softcap = softcap;
  o.window = window;
  o.bf16 = true;
  return {s, o};
}
// Odd widths and counts, which leave pairs and vectors half full; several blocks; few queries; keys
// that nobody sees; and every option.
std::vector<Problem> problems() {
  return {problem({1, 1, 1, 1, 1, 1}),
          problem({1, 3, 3, 1, 1, 7}),
          problem({2, 17, 17, 4, 4, 32}),
          problem({3, 64, 64, 2, 2, 32}),
          problem({1, 65, 65, 6, 2, 64}),
          problem({1, 100, 100, 2, 1, 33}),
          problem({1, 257, 257, 2, 1, 128}),
          problem({1, 130, 130, 2, 1, 96}),
          problem({1, 67, 67, 2, 1, 256}),
          problem({1, 20, 90, 1, 1, 200}, 70, 0, 30, 40),
          problem({2, 1, 34, 4, 2, 32}, 33),
          problem({1, 5, 100, 2, 2, 24}, 40),
          problem({1, 40, 333, 2, 1, 16}, 290),
          problem({1, 41, 134, 2, 1, 15}, 93, 0.3),
          problem({1, 70, 70, 2, 1, 64}, 0, 0.3, 0.5),
          problem({2, 9, 9, 2, 2, 8}, 0, 0, 0, 1),
          problem({1, 199, 199, 2, 1, 16}, 0, 0, 0, 64),
          problem({1, 200, 200, 1, 1, 20}, 0, 0, 2, 65),
          problem({1, 70, 401, 2, 1, 16}, 311, 0, 3, 129)};
}

struct Inputs {
  Tensor query, key, value, grad_output;
};
Inputs inputs(const AttentionShape& s, double scale_of_query = 1) {
  Generator random(3);
  const auto rounded = [&](const Shape& shape, double scale) {
    return random.normal(shape, 0, scale, DType::f32).to(DType::bf16).to(DType::f32);
  };
  return {rounded({s.batch, s.queries, s.heads, s.dim}, scale_of_query),
          rounded({s.batch, s.keys, s.kv_heads, s.dim}, 1),
          rounded({s.batch, s.keys, s.kv_heads, s.dim}, 1),
          rounded({s.batch, s.queries, s.heads, s.dim}, 1)};
}
AttentionResult reference(const Problem& p, const Inputs& in) {
  return naive::attention(p.shape, in.query.to_vector(), in.key.to_vector(), in.value.to_vector(),
                          p.options, in.grad_output.to_vector());
}

// NaN wherever nothing was written.
Tensor poisoned(const Shape& shape) {
  return Tensor::full(shape, NAN, DType::f32);
}
struct Outputs {
  Tensor output, log_sum_exp, grad_query, grad_key, grad_value;
};
// x on `device`. Where not `whole`, elements begin off the boundaries of 16 bytes.
Tensor placed(const Tensor& x, Device device, bool whole) {
  if (whole) return x.to(device);
  Tensor all = Tensor::zeros({x.numel() + 1}, x.dtype(), {});
  std::copy_n(x.data<float>(), x.numel(), all.mutable_data<float>() + 1);
  return all.to(device).slice(0, 1, x.numel() + 1).view(x.shape());
}

// The backward pass starts from the reference's output, so that it is judged by itself. The second
// way differs in what must not matter: the number of threads; on cuda, where tensors begin and,
// emulated, the order of warps and blocks.
enum class Way { first, second };
Outputs run(const Problem& p, const Inputs& in, const AttentionResult& wanted, Device device,
            Way way = Way::first) {
  const AttentionShape& s = p.shape;
  const int before = omp_get_max_threads();
  omp_set_num_threads(way == Way::first ? 2 : 1);
#if defined(REVERIE_CUDA_EMULATED)
  cuda::emulation::set_schedule(way == Way::first ? 0 : 1);
#endif
  const auto there = [&](const Tensor& x) { return placed(x, device, way == Way::first); };
  const auto f32 = [&](const Shape& shape, const Values& v) {
    return there(Tensor::from<double>(shape, v).to(DType::f32));
  };
  Outputs o{there(poisoned(in.query.shape())), there(poisoned({s.batch, s.heads, s.queries})),
            there(poisoned(in.query.shape())), there(poisoned(in.key.shape())),
            there(poisoned(in.value.shape()))};
  const Tensor query = there(in.query), key = there(in.key), value = there(in.value);
  kernel::attention_forward(device, {query, key, value, p.options, o.output, o.log_sum_exp});
  const Tensor output = f32(in.query.shape(), wanted.output),
               log_sum_exp = f32({s.batch, s.heads, s.queries}, wanted.log_sum_exp);
  kernel::attention_backward(device, {query, key, value, output, log_sum_exp, there(in.grad_output),
                                      p.options, o.grad_query, o.grad_key, o.grad_value});
  for (Tensor* t : {&o.output, &o.log_sum_exp, &o.grad_query, &o.grad_key, &o.grad_value})
    *t = t->to(Device{});
  omp_set_num_threads(before);
#if defined(REVERIE_CUDA_EMULATED)
  cuda::emulation::set_schedule(0);
#endif
  return o;
}

// The largest error, relative to the element or to `least`, whichever is larger. NaN: infinite.
double error(const Tensor& actual, const Values& wanted, double least) {
  const Values a = actual.to_vector();
  double worst = 0;
  for (size_t i = 0; i < wanted.size(); ++i) {
    const double e = std::abs(a[i] - wanted[i]) / std::max(std::abs(wanted[i]), least);
    worst = std::isnan(e) ? INFINITY : std::max(worst, e);
  }
  return worst;
}
double rms(const Values& v) {
  double squares = 0;
  for (double x : v) squares += x * x;
  return std::sqrt(squares / double(v.size()));
}

// An instruction set, or cuda.
using Place = std::optional<Isa>;

class AttentionBf16 : public ::testing::TestWithParam<Place> {
 protected:
  void SetUp() override {
    if (!GetParam()) {
      if (!cuda::status().usable) GTEST_SKIP() << "device cuda: " << cuda::status().in_words;
      return;
    }
    if (!isa_supported(*GetParam())) GTEST_SKIP() << "this machine lacks " << name_of(*GetParam());
    set_active_isa(*GetParam());
  }
  void TearDown() override {
    for (int isa = 0; isa < kIsas; ++isa)
      if (isa_supported(Isa(isa))) set_active_isa(Isa(isa));
  }
  static Device device() { return GetParam() ? Device{} : Device{DeviceKind::cuda, 0}; }
};

TEST_P(AttentionBf16, MatchesTheReference) {
  for (const Problem& p : problems()) {
    const AttentionShape& s = p.shape;
    SCOPED_TRACE(fmt::format("B{} Tq{} Tk{} H{}/{} D{} from {} dropout {} cap {} window {}",
                             s.batch, s.queries, s.keys, s.heads, s.kv_heads, s.dim,
                             p.options.first_position, p.options.dropout_p, p.options.softcap,
                             p.options.window));
    const Inputs in = inputs(s);
    const AttentionResult wanted = reference(p, in);
    const Outputs o = run(p, in, wanted, device());
    // No weight meets a product on the way to the sums.
    EXPECT_LT(error(o.log_sum_exp, wanted.log_sum_exp, 1), 1e-5);
    // Each weight is off by half a unit in the 8th bit at most: 2^-9 of it, times values that are
    // averaged with these weights (dropout scales what it keeps) and below 4.5 in size.
    EXPECT_LT(error(o.output, wanted.output, 4.5 / (1 - p.options.dropout_p)), 1.01 / 512);
    // The reference rounds where the kernel does. A weight near the middle of two bf16 numbers may
    // go to the other one: a term of a sum is then off by 2^-8.
    for (const auto& [actual, gradient] :
         {std::pair{&o.grad_query, &wanted.grad_query}, std::pair{&o.grad_key, &wanted.grad_key},
          std::pair{&o.grad_value, &wanted.grad_value}})
      EXPECT_LT(error(*actual, *gradient, std::max(0.03, rms(*gradient))), 1.0 / 256);
    const Outputs one = run(p, in, wanted, device(), Way::second);
    for (const auto& [a, b] :
         {std::pair{&o.output, &one.output}, std::pair{&o.grad_query, &one.grad_query},
          std::pair{&o.grad_key, &one.grad_key}, std::pair{&o.grad_value, &one.grad_value}})
      EXPECT_TRUE(bit_identical(*a, *b)) << "differs between two ways that must not matter";
  }
}

// Queries of 0 weigh all that they see alike: exp(0) is 1 in bf16, too, so that the output is exact
// and its sums show every index.
TEST_P(AttentionBf16, EqualWeightsAreNotRounded) {
  for (Problem p : problems()) {
    p.options.dropout_p = 0;
    const Inputs in = inputs(p.shape, 0);
    const AttentionResult wanted = reference(p, in);
    EXPECT_LT(error(run(p, in, wanted, device()).output, wanted.output, 1), 1e-5);
  }
}

TEST_P(AttentionBf16, RoundsItsOperands) {
  const Problem p = problem({1, 33, 33, 2, 2, 16});
  Inputs in = inputs(p.shape);
  const AttentionResult wanted = reference(p, in);
  const Outputs before = run(p, in, wanted, device());
  // What rounds to the same operands gives the same, to the bit.
  for (Tensor* t : {&in.query, &in.key, &in.value}) {
    float* x = t->mutable_data<float>();
    for (int64_t i = 0; i < t->numel(); ++i) x[i] *= 1 + 1.0f / 4096;
  }
  const Outputs after = run(p, in, wanted, device());
  EXPECT_TRUE(bit_identical(before.output, after.output));
  EXPECT_TRUE(bit_identical(before.grad_key, after.grad_key));
  // And the reference of one key less is not taken for right.
  Problem narrower = p;
  narrower.options.window = 32;
  const AttentionResult other = reference(narrower, inputs(p.shape));
  EXPECT_GT(error(before.log_sum_exp, other.log_sum_exp, 1), 1e-5);
  EXPECT_GT(error(before.grad_value, other.grad_value, std::max(0.03, rms(other.grad_value))),
            1.0 / 256);
}

// Groups with a context: the CPU rounds nothing.
TEST_P(AttentionBf16, GroupsMatchTheReference) {
  struct Entry {
    naive::GroupedShape shape;
    double softcap = 0;
    int64_t window = 0;
  };
  for (const Entry& e :
       {Entry{{1, 1, 1, 1, 1, 1, 1}}, Entry{{2, 3, 5, 7, 2, 1, 8}}, Entry{{1, 9, 16, 70, 4, 2, 33}},
        Entry{{2, 5, 32, 140, 2, 2, 64}}, Entry{{1, 3, 24, 50, 1, 1, 256}, 3},
        Entry{{1, 4, 20, 90, 2, 1, 96}, 0, 30}}) {
    const naive::GroupedShape& s = e.shape;
    SCOPED_TRACE(fmt::format("B{} G{} S{} T{} H{}/{} D{}", s.batch, s.groups, s.size, s.context,
                             s.heads, s.kv_heads, s.dim));
    AttentionOptions options;
    options.scale = 1 / std::sqrt(double(s.dim));
    options.softcap = e.softcap;
    options.window = e.window;
    options.bf16 = true;
    Generator random(5);
    const auto rounded = [&](const Shape& shape) {
      return random.normal(shape, 0, 1, DType::f32).to(DType::bf16).to(DType::f32);
    };
    const Shape own{s.batch, s.rows(), s.kv_heads, s.dim},
        shared{s.batch, s.context, s.kv_heads, s.dim};
    const Tensor query = rounded({s.batch, s.rows(), s.heads, s.dim}), key = rounded(own),
                 value = rounded(own), context_key = rounded(shared),
                 context_value = rounded(shared), grad_output = rounded(query.shape());
    std::vector<int32_t> limits;
    for (int64_t i = 0; i < s.batch * s.groups; ++i)
      limits.push_back(i == 1 ? int32_t(s.context) : int32_t(i * 37 % (s.context + 1)));
    AttentionOptions as_computed = options;
    as_computed.bf16 = device().kind == DeviceKind::cuda;
    const naive::GroupedResult wanted = naive::grouped_attention(
        s, query.to_vector(), key.to_vector(), value.to_vector(), context_key.to_vector(),
        context_value.to_vector(), limits, as_computed, grad_output.to_vector());
    const auto there = [&](const Tensor& x) { return x.to(device()); };
    const Tensor on_device[] = {there(query), there(key), there(value), there(context_key),
                                there(context_value)},
                 places = there(Tensor::from<int32_t>({s.batch, s.groups}, limits));
    Tensor output = there(poisoned(query.shape())),
           log_sum_exp = there(poisoned({s.batch, s.heads, s.rows()})), grads[5];
    for (size_t i = 0; i < 5; ++i) grads[i] = there(poisoned(on_device[i].shape()));
    kernel::grouped_attention_forward(
        device(), {on_device[0], on_device[1], on_device[2], on_device[3], on_device[4], places,
                   options, output, log_sum_exp});
    const auto f32 = [&](const Shape& shape, const Values& v) {
      return there(Tensor::from<double>(shape, v).to(DType::f32));
    };
    kernel::grouped_attention_backward(
        device(),
        {on_device[0], on_device[1], on_device[2], on_device[3], on_device[4], places,
         f32(query.shape(), wanted.output), f32({s.batch, s.heads, s.rows()}, wanted.log_sum_exp),
         there(grad_output), options, grads[0], grads[1], grads[2], grads[3], grads[4]});
    EXPECT_LT(error(log_sum_exp.to(Device{}), wanted.log_sum_exp, 1), 1e-5);
    EXPECT_LT(error(output.to(Device{}), wanted.output, 4.5), 1.01 / 512);
    const Values* gradients[] = {&wanted.grad_query, &wanted.grad_key, &wanted.grad_value,
                                 &wanted.grad_context_key, &wanted.grad_context_value};
    // As above: the gradient of a score near the middle may be rounded the other way (here one is,
    // by 2^-9). The row of its query is then off by that times its key, and the key's by that times
    // its query.
    for (size_t i = 0; i < 5; ++i) {
      const Values &g = *gradients[i], got = grads[i].to(Device{}).to_vector();
      const double least = std::max(0.03, rms(g));
      const size_t dim = size_t(s.dim);
      Values off(g.size());
      int64_t rows_off = 0;
      for (size_t row = 0; row < g.size(); row += dim) {
        double worst = 0;
        for (size_t e = row; e < row + dim; ++e) {
          off[e] = got[e] - g[e];
          worst = std::max(worst, std::abs(off[e]) / std::max(std::abs(g[e]), least));
        }
        rows_off += !(worst < 1.0 / 256);
      }
      EXPECT_LE(rows_off, 1) << "gradient " << i;
      EXPECT_LT(rms(off), least / 2048) << "gradient " << i;
    }
  }
}

INSTANTIATE_TEST_SUITE_P(Places, AttentionBf16,
                         ::testing::Values(Isa::portable, Isa::avx2, Isa::avx512, Place{}),
                         [](const auto& info) {
                           return info.param ? std::string(name_of(*info.param)) : "cuda";
                         });

// By cuDNN, which rounds what it returns, too: half a unit in the 8th bit more, of each number.
TEST(AttentionByCudnn, MatchesTheReference) {
  if (attention_library().empty()) GTEST_SKIP() << "this build has no cuDNN";
  if (!cuda::status().usable) GTEST_SKIP() << "device cuda: " << cuda::status().in_words;
  const Device device{DeviceKind::cuda, 0};
  for (const Problem& p :
       {problem({2, 64, 64, 4, 4, 32}), problem({1, 257, 257, 2, 1, 128}),
        problem({1, 100, 100, 6, 2, 64}), problem({1, 40, 330, 2, 2, 64}, 290)}) {
    SCOPED_TRACE(fmt::format("Tq{} Tk{} H{}/{} D{}", p.shape.queries, p.shape.keys, p.shape.heads,
                             p.shape.kv_heads, p.shape.dim));
    const Inputs in = inputs(p.shape);
    const AttentionResult wanted = reference(p, in);
    set_attention_choice(AttentionChoice::cudnn);
    const Outputs o = run(p, in, wanted, device), again = run(p, in, wanted, device);
    set_attention_choice(AttentionChoice::own);
    // It was cuDNN: our kernels return sums in f32.
    EXPECT_TRUE(bit_identical(o.output, o.output.to(DType::bf16).to(DType::f32)));
    EXPECT_LT(error(o.log_sum_exp, wanted.log_sum_exp, 1), 1e-4);
    EXPECT_LT(error(o.output, wanted.output, 4.5), 2.02 / 512);
    for (const auto& [actual, gradient] :
         {std::pair{&o.grad_query, &wanted.grad_query}, std::pair{&o.grad_key, &wanted.grad_key},
          std::pair{&o.grad_value, &wanted.grad_value}})
      EXPECT_LT(error(*actual, *gradient, std::max(0.03, rms(*gradient))), 1.0 / 128);
    EXPECT_TRUE(bit_identical(o.grad_query, again.grad_query));
    EXPECT_TRUE(bit_identical(o.grad_key, again.grad_key));
  }
}

TEST(AttentionByCudnn, IsRefusedWhereTheBuildHasNone) {
  if (!attention_library().empty()) GTEST_SKIP() << "this build has " << attention_library();
  EXPECT_THROW(set_attention_choice(AttentionChoice::cudnn), ConfigError);
  EXPECT_EQ(attention_choice(), AttentionChoice::own);
}

TEST(AttentionBf16Checks, TakesF32Alone) {
  const Tensor x = Tensor::zeros({1, 2, 1, 4}, DType::f64);
  Tensor y = Tensor::zeros({1, 2, 1, 4}, DType::f64), sums = Tensor::zeros({1, 1, 2}, DType::f64);
  AttentionOptions o;
  o.bf16 = true;
  EXPECT_THROW(kernel::attention_forward({}, {x, x, x, o, y, sums}), UserError);
}

}  // namespace
}  // namespace reverie::test
