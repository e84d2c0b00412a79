#include "trainers/tables/shrunk_table.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "trainers/exporting/random_base.h"

namespace reverie {
namespace {

constexpr const char* kLatents = "latent_effect";

void divide(Json& sizes, const char* key, int64_t by, int64_t least) {
  if (!sizes.is_object() || !sizes.contains(key) || !sizes[key].is_number_integer()) return;
  const int64_t size = sizes[key];
  sizes[key] = std::max(std::min(size, least), size / by);
}

void shrink_measurement(Json& measure, int64_t by) {
  constexpr int64_t kLeastTexts = 8;
  // 0 is all texts, and so is a size that is not given.
  if (measure.value("windows", Json(0)) == 0) measure["windows"] = kLeastTexts * by;
  divide(measure, "windows", by, kLeastTexts);
  divide(measure, "points", by, 2);
  measure["resamples"] = 50;
}

void shrink_base(Json& preset, const std::string& path, const Shrinking& s) {
  if (!preset.contains("base_model") || !preset["base_model"].is_string()) return;
  const std::string base = preset["base_model"];
  Json shape = preset.value("base_shape", Json());
  if (shape.is_null()) {
    if (!std::filesystem::exists(base))
      throw ConfigError(fmt::format(
          "--shrink: {}.base_model {} is not there, and nothing says of what shape it is: wanted "
          "the model, or \"base_shape\" beside it",
          path, base));
    shape = published_shape(base);
  }
  // Positions behind a text cost nothing, and latents need them.
  Shrinking whole_texts = s;
  whole_texts.texts = false;
  preset["base_shape"] = shrunk_model(std::move(shape), whole_texts);
  preset["base_model"] = shrunk_base_path(preset["base_shape"], s);
  preset.erase("base_dtype");  // random weights are written in f32
}

}  // namespace

std::string kind_of_table(const Config& table) {
  const Json kind = table.json().value("kind", Json(kDefaultTableKind));
  return kind.is_string() ? kind.get<std::string>() : "";
}

Shrinking shrinking_of(const std::string& kind, int64_t by, const std::string& table_directory,
                       bool makes) {
  const auto directory = std::filesystem::absolute(table_directory) / "shrunk";
  // Block sizes are what a table of losses compares.
  return {by, directory.lexically_normal().string(), kind == kLatents, makes};
}

Config shrunk_table(const Config& table, const std::string& preset, const Shrinking& s) {
  const std::string kind = kind_of_table(table);
  if (kind != kLatents && kind != kDefaultTableKind)
    throw ConfigError(
        fmt::format("--shrink: a table of kind \"{}\" cannot be shrunk, since its tasks have no "
                    "smaller form; tables of the kinds \"{}\" and \"{}\" can",
                    kind, kDefaultTableKind, kLatents));
  Json all = table.json();
  const std::string path = "$.presets." + preset;
  if (!all.contains("presets") || !all["presets"].contains(preset) ||
      !all["presets"][preset].is_object())
    return table;  // whoever reads it says so
  Json& own = all["presets"][preset];
  if (all.contains("title") && all["title"].is_string())
    all["title"] = fmt::format("Shrunk by {}: {}", s.by, all["title"].get<std::string>());
  if (own.contains("seeds") && own["seeds"].is_array()) {
    const auto left = std::max<size_t>(1, own["seeds"].size() / size_t(s.by));
    while (own["seeds"].size() > left) own["seeds"].erase(own["seeds"].size() - 1);
  }
  for (const char* key : {"model_seeds", "block_size_seeds"}) own.erase(key);
  if (kind == kLatents) {
    Json measure = all.value("measure", Json::object());
    measure.update(own.value("measure", Json::object()));
    shrink_measurement(measure, s.by);
    own["measure"] = measure;
    shrink_base(own, path, s);
  }
  return Config(std::move(all), table.path(), table.source());
}

void write_shrunk_base(const Config& shrunk_table, const std::string& preset) {
  const Json& own = shrunk_table.json().at("presets").at(preset);
  if (own.contains("base_model") && own.contains("base_shape"))
    write_random_base(own["base_shape"], own["base_model"].get<std::string>());
}

}  // namespace reverie
