// Arithmetic of fixed width, a digit a word, the most significant one first. Written steps go from the
// least significant digit on.
//   plus:  3 8 plus 4 7      steps  8 7 carry 1 write 5, 3 4 carry 0 write 8     answer  0 8 5
//   times: 3 8 times 4 7     steps  7 gives 2 6 6 sum 0 2 6 6, 4 gives 1 5 2 sum 1 7 8 6
//                            answer 1 7 8 6

#include <fmt/format.h>

#include <algorithm>
#include <vector>

#include "datasets/problems/problem_generator.h"

namespace reverie {
namespace {

struct ArithmeticOptions final : ProblemOptions {
  std::string operation = "times";
  int64_t digits = 3, second_digits = 2;
  void fields(Fields& f) override {
    ProblemOptions::fields(f);
    f.text("operation", operation, {"plus", "times"}, "what is asked of the two numbers");
    f.integer("digits", digits, {1, 9}, "digits of the first number, the first of them not 0");
    f.integer("second_digits", second_digits, {1, 9}, "digits of the second number");
    f.rule(operation != "times" || digits + second_digits <= 6,
           fmt::format("{} and {} digits are multiplied; wanted 6 or fewer in all, of which every "
                       "product is counted for the chance of a guess",
                       digits, second_digits));
  }
};

int64_t power_of_ten(int64_t exponent) {
  int64_t power = 1;
  for (int64_t i = 0; i < exponent; ++i) power *= 10;
  return power;
}

// "0 8 5" for 85 of width 3.
std::string spelled(int64_t number, int64_t width) {
  std::string text = fmt::format("{:0{}}", number, width), out;
  for (const char digit : text) {
    if (!out.empty()) out += ' ';
    out += digit;
  }
  return out;
}

class Arithmetic final : public ProblemGenerator {
 public:
  explicit Arithmetic(const ArithmeticOptions& o) : ProblemGenerator(o), o_(o) {}

  std::string vocabulary() const override {
    return "0 1 2 3 4 5 6 7 8 9 plus times carry write gives sum";
  }
  // The share of the most frequent answer.
  double chance() const override {
    const int64_t first = lowest(o_.digits), second = lowest(o_.second_digits);
    // Of sums, the one in the middle comes once for each value of the shorter number.
    if (o_.operation == "plus") return 1 / (9.0 * double(std::max(first, second)));
    std::vector<int32_t> counts(static_cast<size_t>(power_of_ten(width())));
    for (int64_t a = first; a < 10 * first; ++a)
      for (int64_t b = second; b < 10 * second; ++b) ++counts[size_t(a * b)];
    return double(*std::max_element(counts.begin(), counts.end())) /
           (81.0 * double(first) * double(second));
  }
  Problem problem(Generator& random) const override {
    const auto draw = [&](int64_t digits) {
      const int64_t least = lowest(digits);
      return least + int64_t(random.below(uint64_t(9 * least)));
    };
    const int64_t a = draw(o_.digits), b = draw(o_.second_digits);
    const bool plus = o_.operation == "plus";
    Problem p;
    p.example.question =
        fmt::format("{} {} {}", spelled(a, o_.digits), o_.operation, spelled(b, o_.second_digits));
    p.example.steps = plus ? steps_of_sum(a, b) : steps_of_product(a, b);
    p.example.answer = spelled(plus ? a + b : a * b, width());
    p.identity = fmt::format("{} {}", std::min(a, b), std::max(a, b));
    return p;
  }

 private:
  static int64_t lowest(int64_t digits) { return power_of_ten(digits - 1); }
  int64_t width() const {
    return o_.operation == "plus" ? std::max(o_.digits, o_.second_digits) + 1
                                  : o_.digits + o_.second_digits;
  }
  std::vector<std::string> steps_of_sum(int64_t a, int64_t b) const {
    std::vector<std::string> steps;
    for (int64_t i = 1, carry = 0; i < width(); ++i, a /= 10, b /= 10) {
      const int64_t sum = a % 10 + b % 10 + carry;
      carry = sum / 10;
      steps.push_back(fmt::format("{} {} carry {} write {}", a % 10, b % 10, carry, sum % 10));
    }
    return steps;
  }
  std::vector<std::string> steps_of_product(int64_t a, int64_t b) const {
    std::vector<std::string> steps;
    int64_t sum = 0, place = 1;
    for (int64_t i = 0; i < o_.second_digits; ++i, b /= 10, place *= 10) {
      const int64_t digit = b % 10;
      sum += a * digit * place;
      steps.push_back(fmt::format("{} gives {} sum {}", digit, spelled(a * digit, o_.digits + 1),
                                  spelled(sum, width())));
    }
    return steps;
  }

  ArithmeticOptions o_;
};

REVERIE_REGISTER_PROBLEMS("arithmetic", Arithmetic, ArithmeticOptions,
                          "sums or products of two numbers, digit by digit");

}  // namespace
}  // namespace reverie
