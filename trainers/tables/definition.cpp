#include "trainers/tables/definition.h"

#include <fmt/format.h>

#include <charconv>
#include <optional>

#include "core/error.h"
#include "core/json.h"

namespace reverie {
namespace {

std::optional<int64_t> parsed(const std::string& key) {
  int64_t number = 0;
  const char* end = key.data() + key.size();
  const auto read = std::from_chars(key.data(), end, number);
  if (read.ec != std::errc() || read.ptr != end) return std::nullopt;
  return number;
}

}  // namespace

void describe_patches(Fields& f, std::string_view key, Named<Json>& value, std::string_view doc) {
  describe_named(f, key, value, doc, [](Fields& inner, const std::string& name, Json& patch) {
    inner.patch(name, patch, "merged into the config of its runs");
  });
}

void TablePreset::fields(Fields& f) {
  f.required().integers("seeds", seeds, {0, int64_t(1) << 53}, "every cell is trained with each");
  f.patch("patch", patch, "merged into the config of every run");
}

void TablePreset::seeds_by_name(Fields& f, std::string_view key, Named<std::vector<int64_t>>& value,
                                std::string_view doc) {
  describe_named(f, key, value, doc,
                 [](Fields& inner, const std::string& name, std::vector<int64_t>& own) {
                   inner.integers(name, own, {0, int64_t(1) << 53}, "some of the preset's seeds");
                 });
}

void TablePreset::model_fields(Fields& f) {
  seeds_by_name(f, "model_seeds", model_seeds,
                "by model: those of the seeds that it is trained with; left out: all");
  describe_patches(f, "model_patches", model_patches, "by model: patches, merged after all others");
}

void TableDefinition::fields(Fields& f) {
  if (kind != kDefaultTableKind) f.required();
  f.text("kind", kind, {kind}, "what the table's cells are");
  f.required().text("title", title, {}, "the table's title");
  f.required().patch("base", base,
                     "the experiment that all runs have in common; patches may complete it");
}

void TableDefinition::model_fields(Fields& f) {
  describe_patches(f.required(), "models", models,
                   "by name: patches that make the models, merged after those of a cell's level");
}

void merge_patch(Config& config, const Json& patch) {
  if (!patch.is_null()) config.merge(Config(patch, "$"));
}

std::string type_of_model(const Config& config) {
  const Config type = config.at("model").at("type");
  if (!type.json().is_string())
    throw ConfigError(
        fmt::format("{} is {}, wanted a string", type.path(), json_text(type.json())));
  return type.json().get<std::string>();
}

void ModelTexts::fields(Fields& f) {
  f.text("title", title, {}, "in the table; left out: the model's name");
  f.text("description", description, {}, "what it is, below the table");
}

void TableReport::fields(Fields& f) {
  f.text("citation", citation, {}, "the paper whose figures stand in the table");
  describe_named(f, "models", models, "how models are shown, in the order of the rows",
                 [](Fields& inner, const std::string& name, ModelTexts& texts) {
                   inner.object(name, texts, "one model");
                 });
  f.texts("notes", notes, "paragraphs below the table");
}

std::vector<TableModel> TableReport::table_models() const {
  std::vector<TableModel> out;
  for (const auto& [name, texts] : models)
    out.push_back({name, texts.title.empty() ? name : texts.title, texts.description});
  return out;
}

void number_keys(Fields& f, const std::vector<std::string>& keys, const std::string& where,
                 const char* what) {
  for (const std::string& key : keys)
    f.rule(parsed(key).has_value(), fmt::format("{}: \"{}\" is no {}", where, key, what));
}

int64_t number_of_key(const std::string& key) {
  const auto number = parsed(key);
  if (!number) throw InternalError(fmt::format("the key \"{}\" was taken for a number", key));
  return *number;
}

}  // namespace reverie
