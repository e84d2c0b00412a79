#include "layers/pretrained/load.h"

#include <filesystem>
#include <fstream>
#include <map>

#include "core/compact_weights.h"
#include "core/dry_run.h"
#include "core/error.h"
#include "core/files.h"
#include "core/gguf.h"
#include "layers/families/family.h"
#include "layers/pretrained/formats.h"
#include "layers/pretrained/new_tokens.h"

namespace reverie {
namespace {

PretrainedFiles open_files(const std::string& path) {
  namespace fs = std::filesystem;
  if (fs::is_directory(path)) return open_hugging_face(path);
  require(bool(std::ifstream(path, std::ios::binary)),
          "cannot read {}: no such file or directory; check the path of the model", path);
  if (is_gguf(path) || path.ends_with(".gguf")) return open_gguf_model(path);
  if (path.ends_with(".bin")) return open_llama2c(path);
  throw UserError(
      fmt::format("{}: the model's format is unknown; wanted a Hugging Face directory, a .gguf "
                  "file or a llama2.c .bin file",
                  path));
}

// For a dry run: no weights are needed beside a config.json. Where they are, how they are stored
// counts.
PretrainedFiles open_shape(const std::string& path) {
  const auto has = [&](const char* name) { return std::filesystem::exists(path + "/" + name); };
  return std::filesystem::is_directory(path) && !has("model.safetensors") &&
                 !has("model.safetensors.index.json")
             ? open_hugging_face_shape(path)
             : open_files(path);
}

// Weights that are not there, for a dry run: as a mapped file has them, in the type that
// config.json names.
void add_absent_weights(const Module& model, DType dtype, PretrainedFiles& files) {
  for (const auto& [name, v] : model.parameters()) {
    files.in_place.insert(name);
    files.tensors.push_back({name, v.shape(), dtype, [shape = v.shape(), dtype] {
                               const auto bytes = size_t(shape.numel()) * size_of(dtype);
                               return Tensor::over(map_zeros(bytes), shape, dtype);
                             }});
  }
}

// A short config can describe a model that no memory holds: the files must be able to fill it.
void check_size(const PretrainedFiles& files, const std::string& path) {
  const Json& c = files.component;
  const auto number = [&](const char* key) { return c.at(key).get<double>(); };
  double stored = 0;
  for (const StoredTensor& t : files.tensors) stored += double(t.shape.numel());
  const double wide = number("n_embd"),
               wanted = wide * number("vocab_size") +
                        number("n_layer") * wide * (number("n_hidden") + wide);
  constexpr double kSlack = 1 << 22;  // small models may say what is missing from them
  if (!(wanted < 16 * stored + kSlack))
    throw DataError(fmt::format(
        "{}: its configuration describes a model of more than {:.3g} parameters, but its tensors "
        "hold {:.3g}",
        path, wanted, stored));
}

// Learned positions are read as far as the model goes.
void shorten(StoredTensor& positions, int64_t rows, const std::string& path) {
  if (positions.shape.rank() != 2 || positions.shape[0] == rows) return;
  if (rows > positions.shape[0])
    throw DataError(
        fmt::format("{}: a block_size of {} was asked for, but its learned positions end at {}",
                    path, rows, positions.shape[0]));
  positions.shape[0] = rows;
  positions.read = [read = positions.read, rows] { return read().slice(0, 0, rows); };
}

// w -> 1 + w.
void add_one(StoredTensor& norm) {
  norm.read = [read = norm.read] {
    Tensor t = read().to(DType::f64).clone();
    double* x = t.mutable_data<double>();
    for (int64_t i = 0; i < t.numel(); ++i) x[i] += 1;
    return t;
  };
}

// What the file has for a frozen parameter of f32, without a wide copy where possible: its own
// bytes, or a matrix of another type as compact, on `device`; the transpose of one where the file
// has it the other way round. Undefined: it must be copied.
Tensor weights_in_place(const StoredTensor& t, const Variable& parameter, bool compact,
                        Device device) {
  const bool narrow = t.dtype == DType::bf16 || t.dtype == DType::f16;
  if (t.shape != parameter.shape() ||
      (t.dtype != parameter.dtype() && !(narrow && parameter.dtype() == DType::f32)))
    return {};
  Tensor weights = t.read();
  const bool turned = is_compact(weights) && weights.rank() == 2 && !compact_rows(weights);
  if (turned) weights = weights.transpose(0, 1);
  if (!weights.is_contiguous()) return {};
  if (weights.dtype() == parameter.dtype() && !is_compact(weights))
    return device == Device{} ? weights : Tensor();
  if (!compact || weights.rank() != 2 || !keeps_weights_compact()) return {};
  const Tensor kept = compact_on(is_compact(weights) ? weights : compact_tensor(weights), device);
  return turned ? kept.transpose(0, 1) : kept;
}

// Frozen weights that the file has as the model wants them stay there: processes share its pages.
// Who writes into them all the same gets pages of its own. Learned positions are added to rows as
// they are, and are read wide. A dry run shares compact ones alone: what lies in memory as f32
// takes as much of it wherever it lies.
void share_weights(const Module& model, const std::string& positions, PretrainedFiles& files,
                   Device device) {
  std::map<std::string, Variable> parameters;
  for (const auto& [name, v] : model.parameters()) parameters.emplace(name, v);
  for (StoredTensor& t : files.tensors) {
    const auto found = parameters.find(t.name);
    if (found == parameters.end() || !files.in_place.contains(t.name)) continue;
    const Tensor weights = weights_in_place(t, found->second, t.name != positions, device);
    if (!weights || (dry_run() && !is_compact(weights))) continue;
    if (!is_compact(weights)) allow_private_writes(*weights.storage());
    found->second.set_tensor(weights);
    t.read = [weights] { return weights; };
  }
}

}  // namespace

TransformerShape shape_of(const Family& family, const Json& component, const std::string& file) {
  return family.shape(component_options(
      resolve_component(ModelRegistry::instance(), Config(component, "$", file))));
}

std::string missing_bias(const Family& family, const TransformerShape& shape,
                         const std::string& weight) {
  const auto& n = shape.names;
  const std::string ending = ".weight";
  if (!family.files_have_biases() || shape.bias || !weight.ends_with(ending)) return "";
  for (const std::string& table : {n.root + "." + n.embedding, n.root + "." + n.positions, n.head})
    if (weight == table + ending) return "";
  return weight.substr(0, weight.size() - ending.size()) + ".bias";
}

Tensor half_split_rows(const Tensor& weight, int64_t heads) {
  const int64_t half = weight.size(0) / heads / 2;
  if (compact_rows(weight)) {
    std::vector<int64_t> order;
    for (int64_t head = 0; head < heads; ++head)
      for (int64_t part = 0; part < 2; ++part)
        for (int64_t i = 0; i < half; ++i) order.push_back((head * half + i) * 2 + part);
    return compact_rows_in_order(weight, order);
  }
  return weight.contiguous()
      .view({heads, half, 2, weight.numel() / weight.size(0)})
      .transpose(1, 2)
      .clone()
      .view(weight.shape());
}
StoredTensor half_split_rows(StoredTensor stored, int64_t heads) {
  // Another shape is reported as wrong by the model.
  if (stored.shape.rank() != 2 || stored.shape[0] % (2 * heads) != 0) return stored;
  stored.read = [read = stored.read, heads] { return half_split_rows(read(), heads); };
  return stored;
}

std::vector<std::string> pretrained_files(const std::string& path) {
  if (!std::filesystem::is_directory(path)) return {path};
  return hugging_face_files(path);
}

LoadedModel load_pretrained(const std::string& path, const PretrainedOptions& options) {
  const bool shape_only = dry_run();
  PretrainedFiles files = shape_only ? open_shape(path) : open_files(path);
  if (options.block_size) files.component["block_size"] = *options.block_size;
  if (options.rematerialize) files.component["rematerialize"] = true;
  if (!shape_only) check_size(files, path);
  const int64_t rows = files.component.at("vocab_size");
  if (options.new_tokens)
    files.component["vocab_size"] = rows_with(*options.new_tokens, rows, path);

  LoadedModel loaded;
  loaded.component =
      resolve_component(ModelRegistry::instance(), Config(files.component, "$", path));
  Generator unused;
  loaded.model = ModelRegistry::instance().make(
      loaded.component, Build{unused, options.dtype, options.device, false, options.frozen});
  const auto& transformer = dynamic_cast<const Transformer&>(*loaded.model);
  const TransformerShape& shape = transformer.shape();
  if (options.new_tokens) add_new_rows(files, shape, *options.new_tokens, rows);
  if (shape_only && files.tensors.empty() && files.narrow)
    add_absent_weights(*loaded.model, *files.narrow, files);
  const std::string positions = shape.names.root + "." + shape.names.positions + ".weight";
  for (StoredTensor& t : files.tensors) {
    if (t.name == positions) shorten(t, shape.block_size, path);
    if (shape.norm_stored_minus_one && files.norms_as_published && t.shape.rank() == 1) add_one(t);
  }
  if (options.frozen) {
    share_weights(*loaded.model, positions, files, options.device);
    for (auto& [name, parameter] : loaded.model->parameters())
      if (parameter.device() != options.device)
        Variable(parameter).set_tensor(
            Tensor::empty(parameter.shape(), parameter.dtype(), options.device));
  }
  try {
    if (!shape_only) loaded.model->load(files.tensors);
  } catch (const DataError&) {
    throw;  // of a tensor's own bytes: says where
  } catch (const UserError& e) {
    throw DataError(fmt::format("{}: {}", path, e.what()));
  }
  loaded.model->freeze(options.frozen);
  loaded.model->train(false);
  loaded.bos = files.bos;
  loaded.ends = files.ends;
  return loaded;
}

}  // namespace reverie
