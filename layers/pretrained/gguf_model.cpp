// Models in GGUF files: llama.cpp's names for shapes and tensors.

#include <algorithm>
#include <memory>

#include "core/error.h"
#include "core/gguf.h"
#include "layers/families/family.h"
#include "layers/pretrained/formats.h"
#include "layers/pretrained/gguf_names.h"

namespace reverie {
namespace {

const Family& family_of_file(const GgufFile& file) {
  const std::string architecture = file.text("general.architecture");
  const Family* family = family_of_architecture(architecture);
  if (!family)
    throw DataError(fmt::format("{}: architecture \"{}\" is not built here; known are {}",
                                file.path, architecture, known_architectures()));
  return *family;
}

void refuse_parts_of_models(const GgufFile& file) {
  if (const std::string type = file.text("general.type", "model"); type != "model")
    throw DataError(fmt::format("{}: general.type is \"{}\": not built here", file.path, type));
  if (const int64_t files = file.integer("split.count", 1); files > 1)
    throw DataError(
        fmt::format("{}: split.count is {}: a part of a model (merge its files): not built here",
                    file.path, files));
}

Json component_of(const std::shared_ptr<const GgufFile>& file, const Family& family) {
  GgufKeys keys(file);
  Json component = {{"type", family.names().type}};
  component.update(keys.sizes());
  component.update(family.from_gguf(keys));
  keys.refuse_unread();
  refuse_parts_of_models(*file);
  return component;
}

std::vector<StoredTensor> tensors_of(const std::shared_ptr<const GgufFile>& file,
                                     const Family& family, const TransformerShape& shape) {
  const std::string blocks = shape.names.root + "." + shape.names.blocks + ".";
  const auto is_projection = [&](const std::string& name, const std::string& part) {
    return name.ends_with("." + part + ".weight");
  };
  std::vector<StoredTensor> out;
  for (const GgufTensor& t : file->tensors) {
    if (t.name == "rope_freqs.weight") continue;  // see rope_scaling()
    StoredTensor s{published_name(shape, t.name), t.shape, DType::f32,
                   [file, &t] { return file->compact(t); }};
    // A tied output projection may be stored all the same.
    if (shape.tied && s.name == shape.names.head + ".weight") continue;
    if (family.gguf_turns_neighbours() && is_projection(s.name, shape.names.query))
      s = half_split_rows(std::move(s), shape.heads);
    else if (family.gguf_turns_neighbours() && is_projection(s.name, shape.names.key))
      s = half_split_rows(std::move(s), shape.kv_heads);
    // GGUF keeps all matrices [out, in].
    if (shape.layout == WeightLayout::in_out && s.name.starts_with(blocks) && s.shape.rank() == 2) {
      std::swap(s.shape[0], s.shape[1]);
      s.read = [read = s.read] { return read().transpose(0, 1); };
    }
    out.push_back(std::move(s));
  }
  return out;
}

std::optional<int32_t> token(const GgufFile& file, const std::string& kind) {
  const std::string name = "tokenizer.ggml." + kind + "_token_id";
  if (!file.find_value(name)) return {};
  return int32_t(file.integer(name));
}

}  // namespace

PretrainedFiles open_gguf_model(const std::string& path) {
  const auto file = std::make_shared<const GgufFile>(read_gguf(path));
  const Family& family = family_of_file(*file);
  PretrainedFiles out;
  out.component = component_of(file, family);
  const TransformerShape shape = shape_of(family, out.component, path);
  out.tensors = tensors_of(file, family, shape);
  for (const GgufTensor& t : file->tensors)
    if (t.type == 0 || t.shape.rank() == 2) out.in_place.insert(published_name(shape, t.name));
  out.norms_as_published = false;  // the converter adds the 1
  out.bos = token(*file, "bos");
  for (const char* end : {"eos", "eot", "eom"})  // of the text, of a turn, of a message
    if (const auto id = token(*file, end);
        id && std::find(out.ends.begin(), out.ends.end(), *id) == out.ends.end())
      out.ends.push_back(*id);
  return out;
}

}  // namespace reverie
