// Reading a Fieldset from JSON, writing it back, and resolving components.

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>
#include <utility>

#include "core/config.h"
#include "core/config_internal.h"
#include "core/error.h"
#include "core/listed.h"
#include "core/registry.h"

namespace reverie {
namespace {

class Reader final : public Fields {
 public:
  // `skipped_key` belongs to somebody else ("type" of a component).
  Reader(const Config& config, std::string_view skipped_key)
      : config_(config), skipped_key_(skipped_key) {
    if (!config.json().is_object())
      throw ConfigError(fmt::format("{}{} must be an object {{...}}, got {}",
                                    source_prefix(config.source()), config.path(),
                                    show(config.json())));
  }

  // Throws all that the visit found. Unknown keys come first: the field that seems to be missing is
  // often one of them.
  void finish() const {
    std::string all;
    const auto add = [&](const std::string& error) { all += (all.empty() ? "" : "\n") + error; };
    for (const auto& [key, value] : config_.json().items()) {
      if (key == skipped_key_ || std::find(known_.begin(), known_.end(), key) != known_.end())
        continue;
      add(fmt::format("{}unknown key \"{}\" at {}{}", source_prefix(config_.source()), key,
                      config_.path(), suggestion(key, known_, "known keys")));
    }
    for (const std::string& error : errors_) add(error);
    if (!all.empty()) throw ConfigError(all);
  }

  Fields& required() override {
    required_ = true;
    return *this;
  }
  void integer(std::string_view key, int64_t& value, Range<int64_t> range,
               std::string_view) override {
    visit(key, must_be_given(value, range), range_text(range), [&](const Json& json) {
      value = checked_integer(json, range, here(key), range_text(range));
    });
  }
  void integer_or_auto(std::string_view key, std::optional<int64_t>& value, Range<int64_t> range,
                       std::string_view) override {
    const std::string wanted = range_text(range) + " or \"auto\"";
    visit(key, value && must_be_given(*value, range), wanted, [&](const Json& json) {
      if (json == "auto")
        value.reset();
      else
        value = checked_integer(json, range, here(key), wanted);
    });
  }
  void number(std::string_view key, double& value, Range<double> range, std::string_view) override {
    visit(key, must_be_given(value, range), range_text(range), [&](const Json& json) {
      if (!json.is_number() || !in_range(json.get<double>(), range))
        refuse(here(key), range_text(range), json);
      value = json.get<double>();
    });
  }
  void boolean(std::string_view key, bool& value, std::string_view) override {
    visit(key, false, "true or false", [&](const Json& json) {
      if (!json.is_boolean()) refuse(here(key), "true or false", json);
      value = json.get<bool>();
    });
  }
  void text(std::string_view key, std::string& value, const std::vector<std::string>& choices,
            std::string_view) override {
    visit(key, must_be_given(value, choices), "a string", [&](const Json& json) {
      if (!json.is_string()) refuse(here(key), "a string", json);
      std::string given = json.get<std::string>();
      if (!choices.empty() && std::find(choices.begin(), choices.end(), given) == choices.end())
        throw ConfigError(fmt::format("{}{} cannot be {}{}", source_prefix(config_.source()),
                                      here(key), show(json),
                                      suggestion(given, choices, "choices")));
      value = std::move(given);
      require_some(!value.empty(), key, "a string");
    });
  }
  void texts(std::string_view key, std::vector<std::string>& value, std::string_view) override {
    visit(key, false, "an array of strings", [&](const Json& json) {
      if (!json.is_array()) refuse(here(key), "an array of strings", json);
      std::vector<std::string> given;
      for (const Json& element : json) {
        if (!element.is_string()) refuse(path_join(here(key), given.size()), "a string", element);
        given.push_back(element.get<std::string>());
      }
      value = std::move(given);
      require_some(!value.empty(), key, "an array of strings");
    });
  }
  void integers(std::string_view key, std::vector<int64_t>& value, Range<int64_t> each,
                std::string_view) override {
    visit(key, false, "an array of integers", [&](const Json& json) {
      if (!json.is_array()) refuse(here(key), "an array of integers", json);
      std::vector<int64_t> given;
      for (const Json& element : json)
        given.push_back(
            checked_integer(element, each, path_join(here(key), given.size()), range_text(each)));
      value = std::move(given);
      require_some(!value.empty(), key, "an array of integers");
    });
  }
  void numbers(std::string_view key, std::vector<double>& value, Range<double> each,
               std::string_view) override {
    visit(key, false, "an array of numbers", [&](const Json& json) {
      if (!json.is_array()) refuse(here(key), "an array of numbers", json);
      std::vector<double> given;
      for (const Json& element : json) {
        if (!element.is_number() || !in_range(element.get<double>(), each))
          refuse(path_join(here(key), given.size()), range_text(each), element);
        given.push_back(element.get<double>());
      }
      value = std::move(given);
      require_some(!value.empty(), key, "an array of numbers");
    });
  }
  void patch(std::string_view key, Json& value, std::string_view) override {
    visit(key, false, "an object", [&](const Json& json) {
      if (!json.is_object() && !(json.is_null() && !needed_)) refuse(here(key), "an object", json);
      value = json;
      require_some(!value.empty(), key, "an object");
    });
  }
  void entries(std::string_view key, Entries& value, std::string_view) override {
    if (auto* list = dynamic_cast<ListedEntries*>(&value)) return read_list(key, *list);
    visit(key, false, "an object", [&](const Json& json) {
      const Config given(json, here(key), config_.source());
      Reader reader(given, "");
      value.clear();
      require_some(!json.empty(), key, "an object");
      for (const auto& [name, element] : json.items()) value.describe(name, reader);
      reader.finish();
    });
  }
  void object(std::string_view key, Fieldset& value, std::string_view) override {
    const Json* json = take(key);
    keep_error([&] {
      // Read even when absent: a field inside may have to be given.
      read_config(Config(json ? *json : Json::object(), here(key), config_.source()), value);
    });
  }
  void component(std::string_view key, Component& value, const RegistryBase& registry,
                 bool optional, std::string_view) override {
    const Json* json = take(key);
    keep_error([&] {
      if (json && !(optional && json->is_null())) {
        value = resolve_component(registry, Config(*json, here(key), config_.source()));
      } else if (json) {
        value = Component{};
      } else if (value.given()) {
        const Json type = value.resolved ? *value.resolved : Json{{"type", value.type}};
        value = resolve_component(registry, Config(type, here(key), config_.source()));
      } else if (!optional) {
        missing(key, fmt::format("{{\"type\": NAME}} of a {}{}", registry.kind(),
                                 suggestion("", registry.names(), "known names")));
      }
    });
  }
  void components(std::string_view key, std::vector<Component>& value, const RegistryBase& registry,
                  std::string_view) override {
    const std::string wanted = fmt::format("an array of {}s, one or more", registry.kind());
    visit(key, value.empty(), wanted, [&](const Json& json) {
      if (!json.is_array() || json.empty()) refuse(here(key), wanted, json);
      std::vector<Component> given;
      for (const Json& element : json)
        given.push_back(resolve_component(
            registry, Config(element, path_join(here(key), given.size()), config_.source())));
      value = std::move(given);
    });
  }
  void rule(bool holds, const std::string& otherwise) override {
    // Nothing can be said about fields that could not be read.
    if (!holds && fields_read_)
      errors_.push_back(
          fmt::format("{}{}: {}", source_prefix(config_.source()), config_.path(), otherwise));
  }

 private:
  std::string here(std::string_view key) const { return path_join(config_.path(), key); }

  // The value given for `key`, or null; from now on the key is known.
  const Json* take(std::string_view key) {
    if (key == skipped_key_ || std::find(known_.begin(), known_.end(), key) != known_.end())
      throw InternalError(
          fmt::format("field \"{}\" at {} is described twice", key, config_.path()));
    known_.emplace_back(key);
    needed_ = std::exchange(required_, false);
    const auto found = config_.json().find(key);
    return found == config_.json().end() ? nullptr : &*found;
  }
  void read_list(std::string_view key, ListedEntries& list) {
    const std::string wanted = "an array of objects";
    visit(key, false, wanted, [&](const Json& json) {
      if (!json.is_array()) refuse(here(key), wanted, json);
      list.clear();
      require_some(!json.empty(), key, wanted);
      std::string all;
      for (const Json& element : json) {
        const Config given(element, path_join(here(key), list.size()), config_.source());
        try {
          read_config(given, list.append());
        } catch (const ConfigError& e) {
          all += (all.empty() ? "" : "\n") + std::string(e.what());
        }
      }
      if (!all.empty()) throw ConfigError(all);
    });
  }
  template <class Read>
  void visit(std::string_view key, bool required, const std::string& wanted, Read&& read) {
    const Json* json = take(key);
    keep_error([&] {
      if (json)
        read(*json);
      else if (required || needed_)
        missing(key, wanted);
    });
  }
  void require_some(bool some, std::string_view key, std::string_view wanted) const {
    if (needed_ && !some)
      throw ConfigError(fmt::format("{}{} is empty; wanted {} with something in it",
                                    source_prefix(config_.source()), here(key), wanted));
  }
  template <class Body>
  void keep_error(Body&& body) {
    try {
      body();
    } catch (const ConfigError& e) {
      errors_.emplace_back(e.what());
      fields_read_ = false;
    }
  }
  [[noreturn]] void missing(std::string_view key, std::string_view wanted) const {
    throw ConfigError(fmt::format("{}missing key \"{}\" at {}; wanted {}",
                                  source_prefix(config_.source()), key, config_.path(), wanted));
  }
  [[noreturn]] void refuse(const std::string& path, std::string_view wanted,
                           const Json& got) const {
    throw ConfigError(fmt::format("{}{} must be {}, got {}", source_prefix(config_.source()), path,
                                  wanted, show(got)));
  }
  int64_t checked_integer(const Json& json, Range<int64_t> range, const std::string& path,
                          std::string_view wanted) const {
    constexpr double kExact = double(int64_t(1) << 53);
    if (json.is_number_float()) {  // 1e3 is 1000
      const double number = json.get<double>();
      if (std::trunc(number) == number && std::abs(number) <= kExact &&
          in_range(int64_t(number), range))
        return int64_t(number);
    }
    // A number beyond int64 was parsed as unsigned or as a float: neither is an integer of ours.
    const bool fits = json.is_number_integer() &&
                      !(json.is_number_unsigned() &&
                        json.get<uint64_t>() > uint64_t(std::numeric_limits<int64_t>::max()));
    if (!fits || !in_range(json.get<int64_t>(), range)) refuse(path, wanted, json);
    return json.get<int64_t>();
  }

  const Config& config_;
  std::string_view skipped_key_;
  bool required_ = false, needed_ = false;  // of the next field; of the one that is read now
  std::vector<std::string> known_;
  std::vector<std::string> errors_;
  bool fields_read_ = true;  // every one so far
};

class Writer final : public Fields {
 public:
  Json result = Json::object();

  void integer(std::string_view key, int64_t& value, Range<int64_t>, std::string_view) override {
    put(key, value);
  }
  void integer_or_auto(std::string_view key, std::optional<int64_t>& value, Range<int64_t>,
                       std::string_view) override {
    put(key, value ? Json(*value) : Json("auto"));
  }
  void number(std::string_view key, double& value, Range<double>, std::string_view) override {
    put(key, value);
  }
  void boolean(std::string_view key, bool& value, std::string_view) override { put(key, value); }
  void text(std::string_view key, std::string& value, const std::vector<std::string>&,
            std::string_view) override {
    put(key, value);
  }
  void texts(std::string_view key, std::vector<std::string>& value, std::string_view) override {
    put(key, value);
  }
  void integers(std::string_view key, std::vector<int64_t>& value, Range<int64_t>,
                std::string_view) override {
    put(key, value);
  }
  void numbers(std::string_view key, std::vector<double>& value, Range<double>,
               std::string_view) override {
    put(key, value);
  }
  void patch(std::string_view key, Json& value, std::string_view) override { put(key, value); }
  void entries(std::string_view key, Entries& value, std::string_view) override {
    if (auto* list = dynamic_cast<ListedEntries*>(&value)) {
      Json all = Json::array();
      for (size_t i = 0; i < list->size(); ++i) all.push_back(write_config(list->at(i)));
      return put(key, std::move(all));
    }
    Writer inner;
    for (const std::string& name : value.names()) value.describe(name, inner);
    put(key, std::move(inner.result));
  }
  void object(std::string_view key, Fieldset& value, std::string_view) override {
    put(key, write_config(value));
  }
  void component(std::string_view key, Component& value, const RegistryBase& registry, bool,
                 std::string_view) override {
    if (!value.given())
      put(key, nullptr);
    else if (value.resolved)
      put(key, *value.resolved);
    else
      put(key,
          *resolve_component(registry, Config(Json{{"type", value.type}}, value.path)).resolved);
  }
  void components(std::string_view key, std::vector<Component>& value, const RegistryBase&,
                  std::string_view) override {
    Json all = Json::array();
    for (const Component& c : value) all.push_back(*c.resolved);
    put(key, std::move(all));
  }

 private:
  void put(std::string_view key, Json value) { result[std::string(key)] = std::move(value); }
};

template <class T>
std::string number_text(T value) {
  if constexpr (std::is_floating_point_v<T>)
    return fmt::format("{:g}", value);
  else
    return fmt::format("{}", value);
}

}  // namespace

bool must_be_given(const std::string& value, const std::vector<std::string>& choices) {
  return !choices.empty() && std::find(choices.begin(), choices.end(), value) == choices.end();
}

template <class T>
std::string range_text(Range<T> range) {
  const std::string noun = std::is_floating_point_v<T> ? "a finite number" : "an integer";
  const bool low = range.low != Range<T>{}.low, high = range.high != Range<T>{}.high;
  if (low && high)
    return fmt::format("{} in {}..{}", noun, number_text(range.low), number_text(range.high));
  if (low) return fmt::format("{} >= {}", noun, number_text(range.low));
  if (high) return fmt::format("{} <= {}", noun, number_text(range.high));
  return noun;
}
template std::string range_text<int64_t>(Range<int64_t>);
template std::string range_text<double>(Range<double>);

void read_config(const Config& config, Fieldset& out) {
  Reader reader(config, "");
  out.fields(reader);
  reader.finish();
}

Json write_config(Fieldset& value) {
  Writer writer;
  value.fields(writer);
  return std::move(writer.result);
}

Component resolve_component(const RegistryBase& registry, const Config& config) {
  const auto refuse = [&](const std::string& got) {
    throw ConfigError(
        fmt::format("{}{} must be an object {{\"type\": NAME, ...}} that names a {}, got {}{}",
                    source_prefix(config.source()), config.path(), registry.kind(), got,
                    suggestion("", registry.names(), "known names")));
  };
  if (!config.json().is_object()) refuse(show(config.json()));
  if (!config.has("type")) refuse("no \"type\"");
  if (!config.json().at("type").is_string()) refuse("\"type\": " + show(config.json().at("type")));

  Component component;
  component.type = config.json().at("type").get<std::string>();
  component.path = config.path();
  const std::string where = source_prefix(config.source()) + path_join(config.path(), "type");
  std::unique_ptr<Fieldset> options = registry.entry(component.type, where).new_fieldset();
  Reader reader(config, "type");
  options->fields(reader);
  reader.finish();
  keep_options(component, std::move(options));
  return component;
}

void keep_options(Component& component, std::unique_ptr<Fieldset> options) {
  auto resolved = std::make_shared<Json>(Json{{"type", component.type}});
  resolved->update(write_config(*options));
  component.resolved = std::move(resolved);
  component.options = std::move(options);
}

const Fieldset& component_options(const Component& component) {
  if (!component.options)
    throw InternalError(fmt::format("component \"{}\" at {} was not resolved before it was used",
                                    component.type, component.path));
  return *component.options;
}

}  // namespace reverie
