#pragma once
/// The equations in solutions of word problems, such as GSM8K's calculator annotations
/// ("Half is 48/2 = <<48/2=24>>24 clips.").

#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace reverie {

/// The number that a text is: [-] digits [. digits]. Digits may lack on one side of the point.
std::optional<double> number_of_text(std::string_view text);
/// The value of numbers, + - * /, // (rounded down), signs and parentheses, as Python computes it.
/// nullopt where the text is no such expression, or has no finite value.
std::optional<double> value_of_expression(std::string_view text);

enum class EquationState { right, malformed, wrong };
/// "48/2=24": whether the number behind the only "=" is the value of what stands before it, to a
/// relative 1e-9. malformed where either is none.
EquationState state_of_equation(std::string_view text);

struct Annotations {
  std::vector<std::string> equations;  ///< what stands in << >>, without white space
  bool malformed = false;              ///< a << or >> without the other
};
Annotations annotations_of(std::string_view line);

}  // namespace reverie
