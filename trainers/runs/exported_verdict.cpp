#include "trainers/runs/exported_verdict.h"

#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/gguf.h"
#include "core/json.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

constexpr const char *kRecord = "reverie", *kGgufVerdict = "reverie.verdict",
                     *kGgufLabel = "reverie.label";

Verdict read_verdict(const Json& json, const std::string& file) {
  try {
    return Verdict::from_json(json);
  } catch (const DataError& e) {
    throw DataError(fmt::format(
        "{}: {}. It should be the verdict of the run that was exported: export the run again", file,
        e.what()));
  }
}

Verdict verdict_of_directory(const std::string& directory) {
  const std::string file = (fs::path(directory) / "config.json").string();
  std::error_code ignored;
  if (!fs::is_regular_file(file, ignored)) return {};
  const Json config = parse_json_or_discard(read_file(file));
  if (!config.is_object() || !config.contains(kRecord)) return {};
  const Json& record = config.at(kRecord);
  return read_verdict(record.is_object() ? record.value("verdict", Json()) : Json(), file);
}

std::string gguf_verdict(const std::string& file) {
  try {
    return read_gguf(file).text(kGgufVerdict, "");
  } catch (const UserError&) {
    return "";  // whoever opens the model says what is wrong
  }
}

}  // namespace

void put_verdict(Json& hugging_face_config, const Verdict& verdict) {
  Json record = {{"verdict", verdict.json()}};
  if (!verdict.label().empty()) record["label"] = verdict.label();
  // A probe may name a path, which need not be UTF-8.
  hugging_face_config[kRecord] = parse_json(json_text_replacing(record));
}

void put_verdict(GgufWriter& out, const Verdict& verdict) {
  out.text(kGgufVerdict, json_text_replacing(verdict.json()));
  if (!verdict.label().empty()) out.text(kGgufLabel, verdict.label());
}

Verdict verdict_of_export(const std::string& path) {
  std::error_code ignored;
  if (fs::is_directory(path, ignored)) return verdict_of_directory(path);
  if (!is_gguf(path)) return {};
  const std::string text = gguf_verdict(path);
  return text.empty() ? Verdict() : read_verdict(parse_json_or_discard(text), path);
}

}  // namespace reverie
