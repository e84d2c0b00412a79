// GSM8K (Cobbe et al. 2021, arXiv 2110.14168) with equations alone for steps, as Deng et al. 2023
// (arXiv 2311.01460) and Coconut have it: the calculator annotations of a solution, one a step.
//   Natalia sold clips to 4 8 of her friends ...   steps  4 8/ 2= 2 4;  4 8+ 2 4= 7 2;  answer  7 2

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "datasets/problems/equations.h"
#include "datasets/problems/problem_generator.h"
#include "datasets/sources.h"

namespace reverie {
namespace {

struct Gsm8kOptions final : ProblemOptions {
  std::string path, held_out_path;
  std::string digits = "apart";
  void fields(Fields& f) override {
    ProblemOptions::fields(f);
    f.path("path", path,
           "a file in GSM8K's form; empty: $REVERIE_DATA/gsm8k/train.jsonl, or the cache");
    f.path(
        "held_out_path", held_out_path,
        "a second file, such as GSM8K's test.jsonl, of which held_out problems are held out; all "
        "of the first are then trained on. Empty: a part of the first is held out");
    f.text("digits", digits, {"apart", "together"},
           "apart: a space before each digit, so that every number can be written in tokens that "
           "were learnt; together: as the file has them, for tokenizers that split numbers");
  }
};

bool is_decimal_digit(char c) {
  return c >= '0' && c <= '9';
}
// A letter, or a byte of a character beyond ASCII.
bool is_letter(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || uint8_t(c) >= 0x80;
}

std::string with_single_spaces(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool white = c == ' ' || c == '\n' || c == '\t' || c == '\r';
    if (!white)
      out += c;
    else if (!out.empty() && out.back() != ' ')
      out += ' ';
  }
  if (out.ends_with(' ')) out.pop_back();
  return out;
}

// "1,200" -> "1200"
std::string without_thousands_separators(std::string_view text) {
  const auto digit = [&](size_t at) { return at < text.size() && is_decimal_digit(text[at]); };
  std::string out;
  for (size_t i = 0; i < text.size(); ++i) {
    const bool separates = text[i] == ',' && i > 0 && digit(i - 1) && digit(i + 1) &&
                           digit(i + 2) && digit(i + 3) && !digit(i + 4);
    if (!separates) out += text[i];
  }
  return out;
}

// "$12 an hour, 3rd" -> "$ 1 2 an hour, 3 rd"
std::string with_digits_apart(std::string_view text) {
  std::string out;
  for (const char c : text) {
    const bool behind_digit = !out.empty() && is_decimal_digit(out.back());
    if (is_decimal_digit(c) ? !out.empty() && out.back() != ' ' : behind_digit && is_letter(c))
      out += ' ';
    out += c;
  }
  return out;
}

std::string identity_of(std::string text) {
  for (char& c : text)
    if (c >= 'A' && c <= 'Z') c = char(c - 'A' + 'a');
  return text;
}

// Why problems of a file are left out.
enum class LeftOut { no_equation, malformed, wrong, other_answer, repeated };

class Gsm8kReader {
 public:
  explicit Gsm8kReader(const Gsm8kOptions& o) : apart_(o.digits == "apart") {}

  // Problems whose identity is known already are repeated.
  std::vector<Problem> read(const std::string& file) {
    std::vector<Problem> problems;
    try {
      for (const Example& solution : read_gsm8k(read_file(file))) {
        ++all_;
        if (auto problem = problem_of(solution)) problems.push_back(std::move(*problem));
      }
    } catch (const DataError& e) {
      throw DataError(fmt::format("{}: {}", file, e.what()));
    }
    if (problems.empty())
      throw DataError(
          fmt::format("{} has no problem whose equations lead to its answer: {}", file, note()));
    kept_ += int64_t(problems.size());
    return problems;
  }
  std::string note() const {
    const auto count = [&](LeftOut why) {
      const auto found = left_out_.find(why);
      return found == left_out_.end() ? 0 : found->second;
    };
    return fmt::format(
        "{} of {} problems, with equations alone for steps; left out are {} without an equation, "
        "{} with a malformed one, {} with a wrong result, {} whose last result is not the answer, "
        "{} repeated",
        kept_, all_, count(LeftOut::no_equation), count(LeftOut::malformed), count(LeftOut::wrong),
        count(LeftOut::other_answer), count(LeftOut::repeated));
  }

 private:
  std::optional<Problem> problem_of(const Example& solution) {
    std::vector<std::string> equations;
    for (const std::string& line : solution.steps) {
      Annotations found = annotations_of(line);
      if (found.malformed) return leave_out(LeftOut::malformed);
      for (std::string& equation : found.equations) equations.push_back(std::move(equation));
    }
    if (equations.empty()) return leave_out(LeftOut::no_equation);
    for (const std::string& equation : equations) {
      const EquationState state = state_of_equation(equation);
      if (state == EquationState::malformed) return leave_out(LeftOut::malformed);
      if (state == EquationState::wrong) return leave_out(LeftOut::wrong);
    }
    const std::string answer = without_thousands_separators(with_single_spaces(solution.answer)),
                      &last = equations.back();
    const auto number = number_of_text(answer),
               result = number_of_text(std::string_view(last).substr(last.find('=') + 1));
    if (!number || *number != *result) return leave_out(LeftOut::other_answer);
    Problem p;
    p.example.question = with_single_spaces(solution.question);
    p.identity = identity_of(p.example.question);
    if (!known_.insert(p.identity).second) return leave_out(LeftOut::repeated);
    p.example.question = written(without_thousands_separators(p.example.question));
    for (const std::string& equation : equations)
      p.example.steps.push_back(written(equation + ";"));
    p.example.answer = written(answer);
    return p;
  }
  std::string written(const std::string& text) const {
    return apart_ ? with_digits_apart(text) : text;
  }
  std::nullopt_t leave_out(LeftOut why) {
    ++left_out_[why];
    return std::nullopt;
  }

  bool apart_;
  int64_t all_ = 0, kept_ = 0;
  std::map<LeftOut, int64_t> left_out_;
  std::set<std::string> known_;
};

class Gsm8k final : public ProblemGenerator {
 public:
  explicit Gsm8k(const Gsm8kOptions& o) : ProblemGenerator(o) {
    Gsm8kReader reader(o);
    // Problems of both files are held out.
    if (!o.held_out_path.empty()) {
      list_.held_out_file = find_examples("gsm8k", o.held_out_path).file;
      list_.held_out = reader.read(list_.held_out_file);
    }
    list_.file = find_examples("gsm8k", o.path).file;
    list_.problems = reader.read(list_.file);
    list_.note = reader.note();
  }

  const ProblemList* list() const override { return &list_; }
  // The share of the most frequent answer.
  double chance() const override {
    std::map<std::string, int64_t> counts;
    int64_t most = 0;
    for (const Problem& p : list_.problems) most = std::max(most, ++counts[p.example.answer]);
    return double(most) / double(list_.problems.size());
  }
  std::string vocabulary() const override {
    std::vector<Example> all;
    for (const auto* part : {&list_.problems, &list_.held_out})
      for (const Problem& p : *part) all.push_back(p.example);
    return text_of_examples(all).substr(1);
  }
  Problem problem(Generator& random) const override {
    return list_.problems[random.below(list_.problems.size())];
  }

 private:
  ProblemList list_;
};

REVERIE_REGISTER_PROBLEMS("gsm8k", Gsm8k, Gsm8kOptions,
                          "GSM8K's word problems, with the equations of its solutions for steps");

}  // namespace
}  // namespace reverie
