#pragma once
/// Templates of a benchmark's prompts and answers: text with places that an item's fields fill.
///
///   {{question}}   {{choices.text[2]}}   {{answer | after_last('####') | strip}}   {{choices[*]}}
///
/// A place names a field; .name goes into an object, [i] into a list (from its end where i is
/// negative), and [*] makes one text for each element. Filters follow, each behind a bar:
///
///   strip             without white space at both ends (strip_left: in front alone)
///   lower_first       the first letter, of ASCII, in lower case
///   before('x')       the text before the first x        after('x')       behind the first x
///   before_last('x')  before the last x; "" without x    after_last('x')  behind the last x; all
///                                                                         of it without x
///   replace('x', 'y') every x becomes y
///   join('x')         a list of texts as one, x between them
///   index(field)      where the value stands in that list, from 0
///
/// In quotes, a backslash makes n a line break and t a tab, and keeps a quote or a backslash.

#include <string>
#include <string_view>
#include <vector>

#include "core/config.h"

namespace reverie {

class Template {
 public:
  /// `path` is where the text stood, for messages. ConfigError where a place is not understood.
  explicit Template(std::string_view text = "", const std::string& path = "template");

  /// Whether a place has [*].
  bool makes_several() const { return several_; }
  /// The one text; of a template without [*]. Numbers are written as JSON has them. DataError where
  /// the item lacks a field or has another type there.
  std::string text_of(const Json& item) const;
  /// The same, but the value itself, of whatever type, where the template is one place and nothing
  /// else: a number of the item is not the text of its digits.
  Json value_of(const Json& item) const;
  /// One text, or one for each element.
  std::vector<std::string> texts_of(const Json& item) const;

 private:
  enum class StepKind { name, element, each };
  struct Step {
    StepKind kind = StepKind::name;
    std::string name;
    int64_t element = 0;
  };
  using Place = std::vector<Step>;
  struct Filter {
    std::string name;
    std::vector<std::string> texts;
    Place place;  ///< of index()
  };
  struct Piece {
    std::string text;  ///< as it stands; or else
    Place place;
    std::vector<Filter> filters;
    std::string written;  ///< the place, for messages
  };
  class Reader;

  static Json value_of(const Piece& piece, const Json& item, int64_t element);
  std::string render(const Json& item, int64_t element) const;
  static const Json& find(const Json& item, const Place& place, int64_t element,
                          const std::string& written);
  static Json filtered(Json value, const Filter& filter, const Json& item, int64_t element,
                       const std::string& written);

  std::vector<Piece> pieces_;
  bool several_ = false;
};

/// `text` without Unicode white space at both ends, as Python's str.strip().
std::string stripped(std::string_view text);

}  // namespace reverie
