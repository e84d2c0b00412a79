#pragma once
/// Strict configuration. Every component describes its own fields once, in Fieldset::fields(); from
/// that one visit come reading with checks, the resolved config with defaults, the JSON Schema and
/// --help.

#include <cstdint>
#include <limits>
#include <memory>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

namespace reverie {

using Json = nlohmann::ordered_json;

/// A JSON value with the place it came from. Parsing rejects duplicate keys, comments, trailing text
/// and nesting deeper than 64 (ConfigError, with line and column or with the JSON path). A copy is
/// independent of its original.
class Config {
 public:
  Config();  ///< {}
  Config(Json value, std::string path, std::string source = "");
  static Config parse(std::string_view text, std::string_view source_name);
  /// `lenient`: // and /* */ comments, and commas before } and ], are skipped.
  static Config from_file(const std::string& file, bool lenient = false);
  const Json& json() const& { return *value_; }
  Json json() &&;  ///< a value of its own: config.at("a").json() outlives its Config
  const std::string& path() const { return path_; }      ///< "$.model.memory"
  const std::string& source() const { return source_; }  ///< "config.json", or empty
  bool has(std::string_view key) const;
  /// The value at `key` with its path. Throws ConfigError when absent.
  Config at(std::string_view key) const;
  /// Puts `value` at the path "a.b". Creates missing objects; an array index is a number, at most the
  /// array's length (which appends).
  void set(std::string_view path, Json value);
  /// Applies "a.b=value" of a command line; `value` is JSON, or else a string. An empty value is an
  /// error: write null or "".
  void set(std::string_view assignment);
  /// RFC 7386 merge: objects merge, null removes, everything else replaces.
  void merge(const Config& patch);

 private:
  /// `what` begins the messages.
  void put(std::string_view path, Json value, const std::string& what);

  std::shared_ptr<Json> value_;
  std::string path_, source_;
};

class RegistryBase;
class Fields;

/// A struct of options. Derived structs give their members defaults and name them in fields().
struct Fieldset {
  virtual ~Fieldset() = default;
  virtual void fields(Fields&) = 0;
};

/// A nested object {"type": NAME, ...} whose remaining keys belong to the registered component NAME.
/// read_config reads the keys once; registries make components of `options`.
struct Component {
  std::string type;  ///< empty: not given (only where optional); set beforehand, it is the default
  /// The options as JSON, for files and messages: {"type": NAME, every field with its value}.
  std::shared_ptr<const Json> resolved;
  std::string path = "$";                             ///< where it stood, for messages
  std::shared_ptr<const Fieldset> options = nullptr;  ///< of the registered type; see registry.h
  bool given() const { return !type.empty(); }
};

/// Values of one form by names that the user chooses; see Named (core/named.h).
struct Entries {
  virtual ~Entries() = default;
  virtual std::vector<std::string> names() const = 0;
  virtual void clear() = 0;
  /// Describes the value called `name` as that field; makes it first where there is none.
  virtual void describe(const std::string& name, Fields&) = 0;
  /// Describes what a new value is, as the field `name`.
  virtual void describe_new(const std::string& name, Fields&) = 0;
};

template <class T>
struct Range {
  T low = std::numeric_limits<T>::lowest();
  T high = std::numeric_limits<T>::max();
};
inline constexpr Range<int64_t> kPositive{1, int64_t(1) << 40};
inline constexpr Range<int64_t> kNonNegative{0, int64_t(1) << 40};

/// One visit over a Fieldset. `doc` is one line: what it is, its unit, when to change it. A default
/// that its own range or choices refuse (a size of 0 where 1 is the least) marks a field that must
/// be given. So does a component without a default type, unless it is optional; an optional one may
/// be null.
class Fields {
 public:
  virtual ~Fields() = default;
  /// The field that is described next must be given, and a text, list or object must not be empty.
  virtual Fields& required() { return *this; }
  virtual void integer(std::string_view key, int64_t& value, Range<int64_t> range,
                       std::string_view doc) = 0;
  /// An integer or "auto" (nullopt).
  virtual void integer_or_auto(std::string_view key, std::optional<int64_t>& value,
                               Range<int64_t> range, std::string_view doc) = 0;
  virtual void number(std::string_view key, double& value, Range<double> range,
                      std::string_view doc) = 0;
  virtual void boolean(std::string_view key, bool& value, std::string_view doc) = 0;
  /// `choices` empty: any string.
  virtual void text(std::string_view key, std::string& value,
                    const std::vector<std::string>& choices, std::string_view doc) = 0;
  virtual void texts(std::string_view key, std::vector<std::string>& value,
                     std::string_view doc) = 0;
  virtual void integers(std::string_view key, std::vector<int64_t>& value, Range<int64_t> each,
                        std::string_view doc) = 0;
  virtual void numbers(std::string_view key, std::vector<double>& value, Range<double> each,
                       std::string_view doc) = 0;
  /// An object that is kept as it stands (null: not given), such as a patch of a config, which is
  /// read when it has been merged.
  virtual void patch(std::string_view key, Json& value, std::string_view doc) = 0;
  /// An object whose keys are names of the user's choice.
  virtual void entries(std::string_view key, Entries& value, std::string_view doc) = 0;
  virtual void object(std::string_view key, Fieldset& value, std::string_view doc) = 0;
  virtual void component(std::string_view key, Component& value, const RegistryBase& registry,
                         bool optional, std::string_view doc) = 0;
  /// An array of at least one.
  virtual void components(std::string_view key, std::vector<Component>& value,
                          const RegistryBase& registry, std::string_view doc) = 0;
  /// A file or directory: see resolve_paths().
  virtual void path(std::string_view key, std::string& value, std::string_view doc) {
    text(key, value, {}, doc);
  }
  /// What fields must be to each other, said after all of them: reading fails with `otherwise` where
  /// it does not hold.
  virtual void rule(bool /*holds*/, const std::string& /*otherwise*/) {}
};

/// Reads `config` into `out`. Unknown keys (with JSON path and the nearest known key), wrong types
/// and values out of range are ConfigErrors, several in one message; keys not given keep their
/// defaults. A number without a fraction, such as 1e3, is an integer.
void read_config(const Config& config, Fieldset& out);
/// Every field with its value, in the order of fields(). read_config(write_config(x)) gives x back.
Json write_config(Fieldset& value);
/// Makes every path() in `value`, also inside components, absolute: "~/" is the home directory,
/// $NAME and ${NAME} come from the environment (ConfigError where it has none of that name), and
/// what is relative begins at `directory`, where the config lies. What exists only seen from the
/// working directory is taken from there.
void resolve_paths(Fieldset& value, const std::string& directory);
/// JSON Schema (draft 2020-12), additionalProperties false, with defaults, ranges, choices and
/// descriptions.
Json config_schema(Fieldset& value);
/// Text for people: one line a field, indented by nesting.
std::string config_help(Fieldset& value);

/// Throws ConfigError: the object at `path` has no `name`, but `known`.
[[noreturn]] void refuse_missing_name(std::string_view name, const std::string& path,
                                      const std::vector<std::string>& known,
                                      const std::string& source = "");

/// The candidate with the smallest edit distance to `word`, if it is near enough to be a typo.
std::optional<std::string> nearest_name(std::string_view word,
                                        const std::vector<std::string>& candidates);

/// Paths whose values differ, as "path: before -> after" lines (for "resume into a changed config").
std::vector<std::string> config_differences(const Json& before, const Json& after);

}  // namespace reverie
