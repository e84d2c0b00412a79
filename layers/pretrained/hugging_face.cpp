// Hugging Face directories.

#include <filesystem>
#include <map>
#include <set>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "layers/families/family.h"
#include "layers/pretrained/formats.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

Json read_json(const std::string& file) {
  const std::string text = read_file(file);
  try {
    return Config::parse(text, file).json();
  } catch (const ConfigError& e) {  // a file of the model's, not the user's own configuration
    throw DataError(e.what());
  }
}

// The shards that an index names, and what it says is in each.
std::map<std::string, std::set<std::string>> read_index(const std::string& directory,
                                                        const std::string& index) {
  const Json json = read_json(index);
  if (!json.is_object() || !json.contains("weight_map") || !json.at("weight_map").is_object())
    throw DataError(fmt::format("{}: no object \"weight_map\"", index));
  std::map<std::string, std::set<std::string>> shards;
  for (const auto& [name, shard] : json.at("weight_map").items()) {
    // A plain file name: an index does not lead out of its directory.
    if (!shard.is_string() || shard.get<std::string>().empty() ||
        fs::path(shard.get<std::string>()).filename() != shard.get<std::string>() ||
        shard.get<std::string>() == "..")
      throw DataError(
          fmt::format("{}: tensor \"{}\" is said to be in {}, wanted the name of a file "
                      "beside the index",
                      index, name, json_text(shard)));
    shards[shard.get<std::string>()].insert(name);
  }
  std::string missing;
  for (const auto& [shard, names] : shards)
    if (!fs::is_regular_file(fs::path(directory) / shard))
      missing += fmt::format("\n  {} ({} tensors, {} first)", shard, names.size(), *names.begin());
  if (!missing.empty())
    throw DataError(
        fmt::format("{}: these shards are missing; download them again:{}", index, missing));
  return shards;
}

// Written by some versions though they are no parameters: causal masks (of bytes or truth values),
// rotary tables; and what belongs to images.
bool is_known_extra(const std::string& name) {
  for (const char* ending : {".attn.bias", ".attn.masked_bias", "rotary_emb.inv_freq",
                             "rotary_emb.cos_cached", "rotary_emb.sin_cached"})
    if (name.ends_with(ending)) return true;
  for (const char* beginning : {"vision_tower.", "multi_modal_projector.", "model.vision_tower.",
                                "model.multi_modal_projector."})
    if (name.starts_with(beginning)) return true;
  return false;
}

NamedTensors read_weights(const std::string& directory) {
  const std::string single = directory + "/model.safetensors", index = single + ".index.json";
  if (fs::exists(single)) return read_safetensors(single, is_known_extra).tensors;
  if (!fs::exists(index))
    throw UserError(
        fmt::format("{}: neither model.safetensors nor model.safetensors.index.json{}", directory,
                    fs::exists(directory + "/pytorch_model.bin") ||
                            fs::exists(directory + "/pytorch_model.bin.index.json")
                        ? "; pytorch_model.bin is not read: save the model again with safetensors"
                        : ""));
  NamedTensors out;
  std::map<std::string, std::string> shard_of;
  std::string absent;
  for (const auto& [shard, names] : read_index(directory, index)) {
    const SafetensorsFile file = read_safetensors(directory + "/" + shard, is_known_extra);
    for (const auto& [name, tensor] : file.tensors) {
      const auto [it, fresh] = shard_of.emplace(name, shard);
      if (!fresh)
        throw DataError(fmt::format("{}: tensor \"{}\" is in two shards, {} and {}", directory,
                                    name, it->second, shard));
      out.emplace_back(name, tensor);
    }
    for (const std::string& name : names)
      if (!is_known_extra(name) && !file.find(name))
        absent += fmt::format("\n  {} in {}", name, shard);
  }
  if (!absent.empty())
    throw DataError(fmt::format("{}: these tensors are not where it says:{}", index, absent));
  return out;
}

// Names as the causal language model has them: models with images put the text model one level
// deeper, models saved without their head leave the root out.
std::string published_name(std::string name, const TransformerShape::Names& names) {
  const std::string root = names.root + ".";
  for (const auto& [from, to] : {std::pair<std::string, std::string>{"language_model.", ""},
                                 {"model.language_model.", "model."}})
    if (name.starts_with(from)) name = to + name.substr(from.size());
  return name.starts_with(root) || name.starts_with(names.head + ".") ? name : root + name;
}

// The ids under `key`: a number or a list of them. Empty where there are none.
std::vector<int32_t> token_ids(const Json& json, const std::string& key, const std::string& file) {
  if (!json.is_object() || !json.contains(key) || json.at(key).is_null()) return {};
  const Json& value = json.at(key);
  std::vector<int32_t> ids;
  for (const Json& id : value.is_array() ? value : Json::array({value})) {
    if (id.is_number_integer() && id.get<int64_t>() < 0) continue;  // some say "none" so
    if (!id.is_number_unsigned() || id.get<uint64_t>() > INT32_MAX)
      throw DataError(fmt::format("{}: \"{}\" is {}, wanted a token's id or a list of them", file,
                                  key, json_text(value)));
    ids.push_back(int32_t(id.get<int64_t>()));
  }
  return ids;
}

// As transformers' generate(): generation_config.json counts where it names them.
std::vector<int32_t> ends_of_text(const std::string& directory, const Json& config,
                                  const std::string& config_file) {
  if (const std::string file = directory + "/generation_config.json"; fs::exists(file))
    if (auto ids = token_ids(read_json(file), "eos_token_id", file); !ids.empty()) return ids;
  return token_ids(config, "eos_token_id", config_file);
}

// Null: it does not say, or names a wide type.
std::optional<DType> narrow_dtype(const Json& config) {
  for (const char* key : {"dtype", "torch_dtype"}) {  // transformers 5, and before
    if (!config.contains(key) || !config.at(key).is_string()) continue;
    if (config.at(key) == "bfloat16") return DType::bf16;
    if (config.at(key) == "float16") return DType::f16;
    return {};
  }
  return {};
}

const Family& family_of_config(const Json& config, const std::string& file) {
  if (!config.is_object()) throw DataError(fmt::format("{}: not a JSON object", file));
  const HuggingFaceConfig c(config, file);
  c.refuse("quantization_config", c.has("quantization_config"),
           "quantized weights are not read from safetensors; use the full ones or a .gguf file");
  const Family* family = family_of_model_type(c.text("model_type"));
  c.refuse("model_type", family == nullptr, "known are " + known_model_types());
  return *family;
}

}  // namespace

std::vector<std::string> hugging_face_files(const std::string& directory) {
  const std::string single = directory + "/model.safetensors", index = single + ".index.json";
  std::vector<std::string> files{directory + "/config.json"};
  if (fs::exists(directory + "/generation_config.json"))
    files.push_back(directory + "/generation_config.json");
  if (fs::exists(single)) {
    files.push_back(single);
    return files;
  }
  files.push_back(index);
  for (const auto& [shard, names] : read_index(directory, index))
    files.push_back(directory + "/" + shard);
  return files;
}

PretrainedFiles open_hugging_face_shape(const std::string& directory) {
  const std::string file = directory + "/config.json";
  require(fs::exists(file), "{} is not a Hugging Face model: it has no config.json", directory);
  const Json config = read_json(file);
  const Family& family = family_of_config(config, file);
  PretrainedFiles out;
  out.component = {{"type", family.names().type}};
  out.component.update(family.from_hugging_face(HuggingFaceConfig(config, file)));
  if (const auto ids = token_ids(config, "bos_token_id", file); !ids.empty()) out.bos = ids[0];
  out.ends = ends_of_text(directory, config, file);
  out.narrow = narrow_dtype(config);
  return out;
}

PretrainedFiles open_hugging_face(const std::string& directory) {
  PretrainedFiles out = open_hugging_face_shape(directory);
  const TransformerShape shape = shape_of(*family_of_type(out.component.at("type")), out.component,
                                          directory + "/config.json");
  for (const auto& [name, tensor] : read_weights(directory)) {
    const std::string published = published_name(name, shape.names);
    if (shape.tied && published == shape.names.head + ".weight") continue;  // the embedding table
    out.in_place.insert(published);
    out.tensors.push_back(
        {published, tensor.shape(), tensor.dtype(), [tensor = tensor] { return tensor; }});
  }
  return out;
}

}  // namespace reverie
