// What a Fieldset says about itself: a JSON Schema for editors, and a help text for people.

#include <algorithm>
#include <cctype>
#include <nlohmann/json.hpp>
#include <set>
#include <utility>

#include "core/config.h"
#include "core/config_internal.h"
#include "core/error.h"
#include "core/json.h"
#include "core/listed.h"
#include "core/registry.h"

namespace reverie {
namespace {

template <class T>
void put_range(Json& schema, Range<T> range) {
  if (range.low != Range<T>{}.low) schema["minimum"] = range.low;
  if (range.high != Range<T>{}.high) schema["maximum"] = range.high;
}

// "#/$defs/memory_module.imm": letters, digits, '_', '-' and '.' need no escapes in a reference.
std::string definition_name(const RegistryBase& registry, const std::string& type) {
  std::string name = registry.kind() + "." + type;
  for (char& c : name)
    if (!std::isalnum(static_cast<unsigned char>(c)) && c != '.' && c != '-') c = '_';
  return name;
}

// Components become definitions, so that one which holds others of its own kind has a finite
// schema.
class SchemaWriter final : public Fields {
 public:
  explicit SchemaWriter(Json& definitions) : definitions_(definitions) {}

  static Json schema_of(Fieldset& value, Json& definitions) {
    SchemaWriter writer(definitions);
    value.fields(writer);
    Json schema = {{"type", "object"},
                   {"properties", std::move(writer.properties_)},
                   {"additionalProperties", false}};
    if (!writer.required_.empty()) schema["required"] = std::move(writer.required_);
    return schema;
  }

  Fields& required() override {
    needed_ = true;
    return *this;
  }
  void integer(std::string_view key, int64_t& value, Range<int64_t> range,
               std::string_view doc) override {
    Json schema = {{"type", "integer"}};
    put_range(schema, range);
    put(key, std::move(schema), value, must_be_given(value, range), doc);
  }
  void integer_or_auto(std::string_view key, std::optional<int64_t>& value, Range<int64_t> range,
                       std::string_view doc) override {
    Json number = {{"type", "integer"}};
    put_range(number, range);
    Json automatic = {{"const", "auto"}};
    put(key, {{"oneOf", Json::array({std::move(number), std::move(automatic)})}},
        value ? Json(*value) : Json("auto"), value && must_be_given(*value, range), doc);
  }
  void number(std::string_view key, double& value, Range<double> range,
              std::string_view doc) override {
    Json schema = {{"type", "number"}};
    put_range(schema, range);
    put(key, std::move(schema), value, must_be_given(value, range), doc);
  }
  void boolean(std::string_view key, bool& value, std::string_view doc) override {
    put(key, {{"type", "boolean"}}, value, false, doc);
  }
  void text(std::string_view key, std::string& value, const std::vector<std::string>& choices,
            std::string_view doc) override {
    Json schema = {{"type", "string"}};
    if (!choices.empty()) schema["enum"] = choices;
    put(key, std::move(schema), value, must_be_given(value, choices), doc);
  }
  void texts(std::string_view key, std::vector<std::string>& value, std::string_view doc) override {
    put(key, {{"type", "array"}, {"items", {{"type", "string"}}}}, value, false, doc);
  }
  void integers(std::string_view key, std::vector<int64_t>& value, Range<int64_t> each,
                std::string_view doc) override {
    Json item = {{"type", "integer"}};
    put_range(item, each);
    put(key, {{"type", "array"}, {"items", std::move(item)}}, value, false, doc);
  }
  void numbers(std::string_view key, std::vector<double>& value, Range<double> each,
               std::string_view doc) override {
    Json item = {{"type", "number"}};
    put_range(item, each);
    put(key, {{"type", "array"}, {"items", std::move(item)}}, value, false, doc);
  }
  void patch(std::string_view key, Json&, std::string_view doc) override {
    put(key, {{"type", "object"}}, nullptr, false, doc);
  }
  void entries(std::string_view key, Entries& value, std::string_view doc) override {
    const std::string any = "any";
    SchemaWriter inner(definitions_);
    value.describe_new(any, inner);
    if (dynamic_cast<ListedEntries*>(&value) != nullptr)
      return put(key, {{"type", "array"}, {"items", std::move(inner.properties_[any])}}, nullptr,
                 false, doc);
    put(key, {{"type", "object"}, {"additionalProperties", std::move(inner.properties_[any])}},
        nullptr, false, doc);
  }
  void object(std::string_view key, Fieldset& value, std::string_view doc) override {
    Json schema = schema_of(value, definitions_);
    const bool required =
        schema.contains("required");  // then it cannot be left out as a whole either
    put(key, std::move(schema), nullptr, required, doc);
  }
  void component(std::string_view key, Component& value, const RegistryBase& registry,
                 bool optional, std::string_view doc) override {
    Json kinds = kinds_of(registry);
    if (optional) kinds.push_back({{"type", "null"}});
    Json schema;
    if (kinds.empty())
      schema["not"] = Json::object();  // nothing is registered, so nothing is right
    else
      schema["oneOf"] = std::move(kinds);
    Json standard = nullptr;
    if (value.resolved)
      standard = *value.resolved;
    else if (value.given())
      standard = {{"type", value.type}};
    put(key, std::move(schema), std::move(standard), !optional && !value.given(), doc);
  }
  void components(std::string_view key, std::vector<Component>& value, const RegistryBase& registry,
                  std::string_view doc) override {
    Json schema = {{"type", "array"}, {"minItems", 1}, {"items", {{"oneOf", kinds_of(registry)}}}};
    put(key, std::move(schema), nullptr, value.empty(), doc);
  }

 private:
  // A reference to the definition of every registered type.
  Json kinds_of(const RegistryBase& registry) {
    Json kinds = Json::array();
    for (const std::string& type : registry.names()) {
      const std::string name = definition_name(registry, type);
      kinds.push_back({{"$ref", "#/$defs/" + name}});
      if (!definitions_.contains(name)) {
        definitions_[name] = true;  // being made: a component inside may refer to it
        definitions_[name] = component_schema(registry, type);
      }
    }
    return kinds;
  }
  Json component_schema(const RegistryBase& registry, const std::string& type) {
    const RegistryBase::Entry& entry = registry.entry(type, "$");
    const std::unique_ptr<Fieldset> options = entry.new_fieldset();
    Json inner = schema_of(*options, definitions_);
    Json properties = {{"type", {{"const", type}}}};
    properties.update(inner["properties"]);
    Json required = Json::array({"type"});
    if (inner.contains("required"))
      required.insert(required.end(), inner["required"].begin(), inner["required"].end());
    return {{"type", "object"},
            {"description", entry.doc},
            {"properties", std::move(properties)},
            {"additionalProperties", false},
            {"required", std::move(required)}};
  }
  // `standard` null: there is no default to show.
  void put(std::string_view key, Json schema, Json standard, bool required, std::string_view doc) {
    const bool needed = std::exchange(needed_, false);
    if (needed) {
      const std::string type = schema.value("type", "");
      if (type == "string" && !schema.contains("enum")) schema["minLength"] = 1;
      if (type == "array") schema["minItems"] = 1;
      if (type == "object") schema["minProperties"] = 1;
    }
    if (required || needed)
      required_.push_back(key);
    else if (!standard.is_null())
      schema["default"] = std::move(standard);
    if (!doc.empty()) schema["description"] = doc;
    properties_[std::string(key)] = std::move(schema);
  }

  Json& definitions_;
  Json properties_ = Json::object(), required_ = Json::array();
  bool needed_ = false;
};

// The top of kPositive and kNonNegative only keeps products in range: to a reader it is no bound.
template <class T>
std::string range_for_people(Range<T> range) {
  if constexpr (std::is_same_v<T, int64_t>)
    if (range.high == kPositive.high) range.high = Range<T>{}.high;
  return range_text(range);
}

class HelpWriter final : public Fields {
 public:
  // `described` holds the kinds of components that were listed already, so that each is listed
  // once.
  HelpWriter(std::string& out, size_t indent, std::set<std::string>& described)
      : out_(out), indent_(indent), described_(described) {}

  Fields& required() override {
    needed_ = true;
    return *this;
  }
  void integer(std::string_view key, int64_t& value, Range<int64_t> range,
               std::string_view doc) override {
    line(key, range_for_people(range), must_be_given(value, range), Json(value), doc);
  }
  void integer_or_auto(std::string_view key, std::optional<int64_t>& value, Range<int64_t> range,
                       std::string_view doc) override {
    line(key, range_for_people(range) + " or \"auto\"", value && must_be_given(*value, range),
         value ? Json(*value) : Json("auto"), doc);
  }
  void number(std::string_view key, double& value, Range<double> range,
              std::string_view doc) override {
    line(key, range_for_people(range), must_be_given(value, range), Json(value), doc);
  }
  void boolean(std::string_view key, bool& value, std::string_view doc) override {
    line(key, "true or false", false, Json(value), doc);
  }
  void text(std::string_view key, std::string& value, const std::vector<std::string>& choices,
            std::string_view doc) override {
    std::string kind;
    for (const std::string& choice : choices)
      kind += (kind.empty() ? "" : " | ") + json_text(Json(choice));
    line(key, choices.empty() ? "a string" : kind, must_be_given(value, choices), Json(value), doc);
  }
  void texts(std::string_view key, std::vector<std::string>& value, std::string_view doc) override {
    line(key, "an array of strings", false, Json(value), doc);
  }
  void integers(std::string_view key, std::vector<int64_t>& value, Range<int64_t> each,
                std::string_view doc) override {
    line(key, "an array, each " + range_for_people(each), false, Json(value), doc);
  }
  void numbers(std::string_view key, std::vector<double>& value, Range<double> each,
               std::string_view doc) override {
    line(key, "an array, each " + range_for_people(each), false, Json(value), doc);
  }
  void patch(std::string_view key, Json&, std::string_view doc) override {
    line(key, "an object", false, nullptr, doc);
  }
  void entries(std::string_view key, Entries& value, std::string_view doc) override {
    const bool list = dynamic_cast<ListedEntries*>(&value) != nullptr;
    line(key, list ? "an array of objects" : "an object", false, nullptr, doc);
    HelpWriter inner(out_, indent_ + 2, described_);
    value.describe_new(list ? "each" : "NAME", inner);
  }
  void object(std::string_view key, Fieldset& value, std::string_view doc) override {
    line(key, "an object", false, nullptr, doc);
    HelpWriter inner(out_, indent_ + 2, described_);
    value.fields(inner);
  }
  void component(std::string_view key, Component& value, const RegistryBase& registry,
                 bool optional, std::string_view doc) override {
    line(key, fmt::format("a {}{}", registry.kind(), optional ? " or null" : ""),
         !optional && !value.given(), value.given() ? Json{{"type", value.type}} : Json(nullptr),
         doc);
    list_types(registry);
  }
  void components(std::string_view key, std::vector<Component>& value, const RegistryBase& registry,
                  std::string_view doc) override {
    line(key, fmt::format("an array of {}s", registry.kind()), value.empty(), nullptr, doc);
    list_types(registry);
  }

 private:
  void list_types(const RegistryBase& registry) {
    if (!described_.insert(registry.kind()).second) {
      out_ += fmt::format("{:{}}(the types are listed above)\n", "", indent_ + 2);
      return;
    }
    for (const std::string& type : registry.names()) {
      const RegistryBase::Entry& entry = registry.entry(type, "$");
      out_ += fmt::format("{:{}}\"type\": \"{}\"  {}\n", "", indent_ + 2, type, entry.doc);
      HelpWriter inner(out_, indent_ + 4, described_);
      entry.new_fieldset()->fields(inner);
    }
  }
  void line(std::string_view key, std::string_view kind, bool required, const Json& standard,
            std::string_view doc) {
    std::string about;
    if (std::exchange(needed_, false) || required)
      about = ", must be given";
    else if (!standard.is_null())
      about = ", default " + show(standard);
    out_ += fmt::format("{:{}}{}  {} ({}{})\n", "", indent_, key, doc, kind, about);
  }

  std::string& out_;
  size_t indent_;
  bool needed_ = false;
  std::set<std::string>& described_;
};

}  // namespace

Json config_schema(Fieldset& value) {
  Json definitions = Json::object();
  Json schema = {{"$schema", "https://json-schema.org/draft/2020-12/schema"}};
  schema.update(SchemaWriter::schema_of(value, definitions));
  if (!definitions.empty()) schema["$defs"] = std::move(definitions);
  return schema;
}

std::string config_help(Fieldset& value) {
  std::string text;
  std::set<std::string> described;
  HelpWriter writer(text, 0, described);
  value.fields(writer);
  return text;
}

}  // namespace reverie
