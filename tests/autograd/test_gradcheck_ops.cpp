// Every op against central differences, and proof that the check itself can fail.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <limits>
#include <regex>
#include <sstream>

#include "autograd/op.h"
#include "autograd/ops/elementwise.h"
#include "autograd/ops/tensors.h"
#include "core/error.h"
#include "kernels/elementwise.h"
#include "kernels/matmul.h"
#include "op_cases.h"
#include "support/tests_directory.h"

namespace reverie::testing {
namespace {

class Gradcheck : public ::testing::TestWithParam<OpCase> {};

TEST_P(Gradcheck, BackwardMatchesCentralDifferences) {
  const OpCase& c = GetParam();
  const GradcheckResult result = gradcheck(c.function, c.inputs, c.options);
  EXPECT_TRUE(result.ok) << result.message << " (worst " << result.worst << ")";
}

// Gradients that live in flat buckets (which ops may write themselves) equal those that do not,
// when the bucket holds garbage, and when it is added to.
TEST_P(Gradcheck, GradientBuffersMakeNoDifference) {
  const OpCase& c = GetParam();
  const auto leaves = [&] {
    Variables v;
    for (const Tensor& t : c.inputs) v.emplace_back(t.clone(), true);
    return v;
  };
  const auto run = [&](const Variables& v) {
    const Variables outputs = c.function(v);
    std::vector<Tensor> cotangents;
    for (const Variable& y : outputs)
      cotangents.push_back(normal(y.shape(), 50 + cotangents.size()));
    backward(outputs, cotangents);
  };
  const Variables plain = leaves(), bucketed = leaves();
  int64_t total = 0;
  for (const Tensor& t : c.inputs) total += t.numel();
  Tensor bucket = Tensor::full({total}, std::numeric_limits<double>::quiet_NaN(), DType::f64);
  int64_t at = 0;
  for (Variable v : bucketed) {
    const int64_t n = v.tensor().numel();
    v.set_grad_buffer(bucket.slice(0, at, at + n).view(v.shape()));
    at += n;
  }
  run(plain);
  run(bucketed);
  const auto difference = [](const Tensor& a, const Tensor& b) {
    const auto x = a.to_vector(), y = b.to_vector();
    double worst = 0;
    for (size_t i = 0; i < x.size(); ++i)
      worst = std::max(worst, std::isnan(y[i]) ? INFINITY : std::abs(x[i] - y[i]));
    return worst;
  };
  for (size_t i = 0; i < plain.size(); ++i) {
    ASSERT_EQ(bucketed[i].grad().defined(), plain[i].grad().defined());
    if (!plain[i].grad().defined())
      continue;  // no gradient reaches the weight of a norm whose result is not used
    EXPECT_TRUE(bucketed[i].grad().shares_storage_with(bucket));
    EXPECT_LE(difference(plain[i].grad(), bucketed[i].grad()), 1e-12) << "input " << i;
  }
  run(plain);
  run(bucketed);
  for (size_t i = 0; i < plain.size(); ++i) {
    if (!plain[i].grad().defined()) continue;
    EXPECT_LE(difference(plain[i].grad(), bucketed[i].grad()), 1e-12) << "accumulated, input " << i;
  }
}

std::string test_name(const ::testing::TestParamInfo<OpCase>& info) {
  std::string name;
  for (char c : info.param.name) {
    if (std::isalnum(static_cast<unsigned char>(c)))
      name += c;
    else if (c == '-')
      name += "minus";
    else if (!name.empty() && name.back() != '_')
      name += '_';
  }
  return name;
}
INSTANTIATE_TEST_SUITE_P(Ops, Gradcheck, ::testing::ValuesIn(op_cases()), test_name);

// ---- coverage -------------------------------------------------------------------
// Names of the op structs in autograd/ops/*.cpp.
std::set<std::string> ops_that_exist() {
  std::set<std::string> names;
  const std::regex declaration(R"(static\s+constexpr\s+std::string_view\s+name\s*=\s*"([^"]+)\")");
  const auto folder =
      std::filesystem::path(testing::test_directory()).parent_path() / "autograd" / "ops";
  for (const auto& entry : std::filesystem::directory_iterator(folder)) {
    if (entry.path().extension() != ".cpp") continue;
    std::stringstream text;
    text << std::ifstream(entry.path()).rdbuf();
    const std::string source = text.str();
    for (std::sregex_iterator i(source.begin(), source.end(), declaration), end; i != end; ++i)
      names.insert((*i)[1]);
  }
  return names;
}

std::vector<std::string> missing(const std::set<std::string>& wanted,
                                 const std::set<std::string>& have) {
  std::vector<std::string> names;
  std::set_difference(wanted.begin(), wanted.end(), have.begin(), have.end(),
                      std::back_inserter(names));
  return names;
}

TEST(GradcheckCoverage, EveryOpHasACase) {
  std::set<std::string> seen;
  for (const OpCase& c : op_cases()) {
    Variables v;
    for (const Tensor& t : c.inputs) v.emplace_back(t, true);
    seen.merge(ops_below(c.function(v)));
  }
  std::set<std::string> exist = ops_that_exist();
  ASSERT_GE(exist.size(), 20u) << "the scan of autograd/ops found too little to be right";
  EXPECT_THAT(missing(exist, seen), ::testing::IsEmpty())
      << "ops without a case in tests/autograd/cases_*.cpp";
  exist.insert("imaginary_op");
  EXPECT_THAT(missing(exist, seen), ::testing::ElementsAre("imaginary_op"));
}

// ---- demands ------------------------------------------------------------------------
TEST(OpDemands, EveryOpRefusesAndSaysWhy) {
  std::set<std::string> refused;
  for (const OpRefusal& r : op_refusals()) {
    SCOPED_TRACE(r.op + " should say: " + r.words);
    refused.insert(r.op);
    try {
      r.call();
      ADD_FAILURE() << "was accepted";
    } catch (const UserError& e) {
      EXPECT_THAT(e.what(), ::testing::HasSubstr(r.words));
    }
  }
  EXPECT_THAT(missing(ops_that_exist(), refused), ::testing::IsEmpty())
      << "ops without a refusal in tests/autograd/cases_*.cpp";
}

TEST(OpDemands, AnUnknownFunctionIsABug) {
  const Variable x = zeros({2});
  EXPECT_THROW(unary(Unary(200), x), InternalError);
  EXPECT_THROW(binary(Binary(200), x, x), InternalError);
  EXPECT_THROW(gated(Unary(200), x, x), InternalError);
}

// ---- the check can fail ------------------------------------------------------------
// y = factor * x; its backward multiplies by `backward_factor`.
struct WrongScale {
  static constexpr std::string_view name = "wrong_scale";
  double factor, backward_factor;
  Tensor forward(Context&, const Tensor& x) { return scaled(x, factor); }
  Grads backward(Context&, const Tensor& g) { return {scaled(g, backward_factor)}; }
  static Tensor scaled(const Tensor& x, double by) {
    Tensor y = empty_like(x);
    kernel::affine(x.device(), Affine{x, by, 0.0, y});
    return y;
  }
};
GradcheckResult check_scale(double factor, double backward_factor) {
  return gradcheck(
      [=](const Variables& v) {
        return Variables{apply_op(WrongScale{factor, backward_factor}, v[0])};
      },
      {normal({2, 3})});
}

TEST(GradcheckItself, AcceptsARightBackward) {
  EXPECT_TRUE(check_scale(3, 3).ok);
}
TEST(GradcheckItself, FindsAWrongSign) {
  const GradcheckResult r = check_scale(3, -3);
  EXPECT_FALSE(r.ok);
  EXPECT_THAT(r.message, ::testing::HasSubstr("input 0 element 0"));
}
TEST(GradcheckItself, FindsAMissingFactor) {
  EXPECT_FALSE(check_scale(3, 1).ok);
}
TEST(GradcheckItself, FindsASmallError) {
  EXPECT_FALSE(check_scale(3, 3.0001).ok);
}
struct Lost {
  static constexpr std::string_view name = "lost";
  Tensor forward(Context&, const Tensor& x) { return WrongScale::scaled(x, 2); }
  Grads backward(Context&, const Tensor&) { return {Tensor()}; }
};
TEST(GradcheckItself, FindsAMissingGradient) {
  EXPECT_FALSE(
      gradcheck([](const Variables& v) { return Variables{apply_op(Lost{}, v[0])}; }, {normal({3})})
          .ok);
}
TEST(GradcheckItself, FindsNaN) {
  const double nan = std::numeric_limits<double>::quiet_NaN();
  EXPECT_FALSE(check_scale(3, nan).ok);
  EXPECT_FALSE(check_scale(nan, 3).ok);
}

struct WrongMatmul {
  static constexpr std::string_view name = "wrong_matmul";
  Tensor forward(Context& ctx, const Tensor& a, const Tensor& b) {
    ctx.save({a, b});
    Tensor c = empty_like(a);
    kernel::matmul(a.device(), Matmul{a, b, 1.0, false, c});
    return c;
  }
  Grads backward(Context& ctx, const Tensor& g) {
    Tensor ga = empty_like(g), gb = empty_like(g);
    kernel::matmul(g.device(), Matmul{g, ctx.saved(1), 1.0, false, ga});  // should be b^T
    kernel::matmul(g.device(), Matmul{ctx.saved(0).transpose(0, 1), g, 1.0, false, gb});
    return {ga, gb};
  }
};
TEST(GradcheckItself, FindsAWrongTransposition) {
  const GradcheckResult r =
      gradcheck([](const Variables& v) { return Variables{apply_op(WrongMatmul{}, v[0], v[1])}; },
                {normal({3, 3}, 1), normal({3, 3}, 2)});
  EXPECT_FALSE(r.ok);
  EXPECT_THAT(r.message, ::testing::HasSubstr("input 0"));
}

struct SwappedInputs {
  static constexpr std::string_view name = "swapped_inputs";
  Tensor forward(Context&, const Tensor& a, const Tensor& b) {
    Tensor y = WrongScale::scaled(a, 2);
    kernel::accumulate(b.device(), {b, 5.0, y});
    return y;
  }
  Grads backward(Context&, const Tensor& g) {
    return {WrongScale::scaled(g, 5), WrongScale::scaled(g, 2)};
  }
};
TEST(GradcheckItself, FindsAGradientGivenToTheWrongInput) {
  EXPECT_FALSE(
      gradcheck([](const Variables& v) { return Variables{apply_op(SwappedInputs{}, v[0], v[1])}; },
                {normal({3}, 1), normal({3}, 2)})
          .ok);
}

// Right when both gradients are wanted, wrong when only the second is.
struct ForgetsSubsets {
  static constexpr std::string_view name = "forgets_subsets";
  Tensor forward(Context&, const Tensor& a, const Tensor& b) {
    Tensor y = WrongScale::scaled(a, 2);
    kernel::accumulate(b.device(), {b, 5.0, y});
    return y;
  }
  Grads backward(Context& ctx, const Tensor& g) {
    return {WrongScale::scaled(g, 2), ctx.needs(0) ? WrongScale::scaled(g, 5) : Tensor()};
  }
};
TEST(GradcheckItself, FindsAnInputThatIsOnlyWrongAlone) {
  const GradcheckResult r = gradcheck(
      [](const Variables& v) { return Variables{apply_op(ForgetsSubsets{}, v[0], v[1])}; },
      {normal({3}, 1), normal({3}, 2)});
  EXPECT_FALSE(r.ok);
  EXPECT_THAT(r.message, ::testing::HasSubstr("input 1 alone"));
}

TEST(GradcheckItself, WantsDoubles) {
  EXPECT_THROW(gradcheck([](const Variables& v) { return v; }, {normal({3}, 1, DType::f32)}),
               UserError);
}

}  // namespace
}  // namespace reverie::testing
