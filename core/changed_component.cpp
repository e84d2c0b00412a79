#include "core/changed_component.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/config_internal.h"
#include "core/idle_fields.h"

namespace reverie {
namespace {

// Checks values in place by their fields' ranges, choices and rules. Components inside need no
// check: those who made them checked them.
class Checker final : public IdleFields {
 public:
  explicit Checker(std::string path) : path_(std::move(path)) {}

  void integer(std::string_view key, int64_t& value, Range<int64_t> range,
               std::string_view) override {
    check(key, value, range);
  }
  void integer_or_auto(std::string_view key, std::optional<int64_t>& value, Range<int64_t> range,
                       std::string_view) override {
    if (value) check(key, *value, range);
  }
  void number(std::string_view key, double& value, Range<double> range, std::string_view) override {
    check(key, value, range);
  }
  void text(std::string_view key, std::string& value, const std::vector<std::string>& choices,
            std::string_view) override {
    if (must_be_given(value, choices))
      errors_.push_back(fmt::format("{} cannot be {}{}", path_join(path_, key), show(value),
                                    suggestion(value, choices, "choices")));
  }
  void integers(std::string_view key, std::vector<int64_t>& value, Range<int64_t> each,
                std::string_view) override {
    for (const int64_t element : value) check(key, element, each);
  }
  void numbers(std::string_view key, std::vector<double>& value, Range<double> each,
               std::string_view) override {
    for (const double element : value) check(key, element, each);
  }
  void entries(std::string_view key, Entries& value, std::string_view) override {
    Checker inner(path_join(path_, key));
    for (const std::string& name : value.names()) value.describe(name, inner);
    take(inner);
  }
  void object(std::string_view key, Fieldset& value, std::string_view) override {
    Checker inner(path_join(path_, key));
    value.fields(inner);
    take(inner);
  }
  void rule(bool holds, const std::string& otherwise) override {
    // Nothing can be said about values that are wrong by themselves.
    if (!holds && errors_.empty()) errors_.push_back(path_ + ": " + otherwise);
  }

  void finish() const {
    if (!errors_.empty()) throw ConfigError(fmt::format("{}", fmt::join(errors_, "\n")));
  }

 private:
  template <class T>
  void check(std::string_view key, T value, Range<T> range) {
    if (!in_range(value, range))
      errors_.push_back(fmt::format("{} must be {}, got {}", path_join(path_, key),
                                    range_text(range), show(value)));
  }
  void take(const Checker& inner) {
    errors_.insert(errors_.end(), inner.errors_.begin(), inner.errors_.end());
  }

  std::string path_;
  std::vector<std::string> errors_;
};

}  // namespace

Component changed_component(const RegistryBase& registry, const Component& component,
                            const std::function<void(Fieldset&)>& change) {
  std::unique_ptr<Fieldset> options =
      registry.entry(component.type, component.path).copy_fieldset(component_options(component));
  change(*options);
  Checker checker(component.path);
  options->fields(checker);
  checker.finish();
  Component changed = component;
  keep_options(changed, std::move(options));
  return changed;
}

}  // namespace reverie
