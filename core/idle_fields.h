#pragma once
/// A visit over a Fieldset that does nothing: the base of visits that look at few kinds of fields.

#include "core/config.h"

namespace reverie {

class IdleFields : public Fields {
 public:
  void integer(std::string_view, int64_t&, Range<int64_t>, std::string_view) override {}
  void integer_or_auto(std::string_view, std::optional<int64_t>&, Range<int64_t>,
                       std::string_view) override {}
  void number(std::string_view, double&, Range<double>, std::string_view) override {}
  void boolean(std::string_view, bool&, std::string_view) override {}
  void text(std::string_view, std::string&, const std::vector<std::string>&,
            std::string_view) override {}
  void texts(std::string_view, std::vector<std::string>&, std::string_view) override {}
  void integers(std::string_view, std::vector<int64_t>&, Range<int64_t>,
                std::string_view) override {}
  void numbers(std::string_view, std::vector<double>&, Range<double>, std::string_view) override {}
  void patch(std::string_view, Json&, std::string_view) override {}
  void entries(std::string_view, Entries&, std::string_view) override {}
  void object(std::string_view, Fieldset&, std::string_view) override {}
  void component(std::string_view, Component&, const RegistryBase&, bool,
                 std::string_view) override {}
  void components(std::string_view, std::vector<Component>&, const RegistryBase&,
                  std::string_view) override {}
};

}  // namespace reverie
