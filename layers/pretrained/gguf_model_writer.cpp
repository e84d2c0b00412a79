#include "layers/pretrained/gguf_model_writer.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "layers/families/family.h"
#include "layers/pretrained/formats.h"
#include "layers/pretrained/gguf_names.h"

namespace reverie {
namespace {

// The inverse of half_split_rows: rows of a query or key projection as neighbours are turned.
Tensor paired_rows(const Tensor& weight, int64_t heads) {
  const int64_t half = weight.size(0) / heads / 2;
  return weight.contiguous()
      .view({heads, 2, half, weight.numel() / weight.size(0)})
      .transpose(1, 2)
      .clone()
      .view(weight.shape());
}

// A parameter as the file has it.
struct Stored {
  Tensor value;
  bool turned = false;       // [in, out] to [out, in]
  int64_t paired_heads = 0;  // rows of so many heads are reordered; 0: none
  Tensor operator()() const {
    return turned ? value.transpose(0, 1) : paired_heads ? paired_rows(value, paired_heads) : value;
  }
  Shape shape() const {
    const Shape& s = value.shape();
    return turned ? Shape{s[1], s[0]} : s;
  }
};

Stored stored(const Family& family, const TransformerShape& s, const std::string& name,
              const Tensor& value) {
  Stored out{value};
  const auto& n = s.names;
  out.turned = s.layout == WeightLayout::in_out && value.rank() == 2 &&
               name.starts_with(n.root + "." + n.blocks + ".");
  if (family.gguf_turns_neighbours())
    out.paired_heads = name.ends_with("." + n.query + ".weight") ? s.heads
                       : name.ends_with("." + n.key + ".weight") ? s.kv_heads
                                                                 : 0;
  return out;
}

void write_keys(GgufWriter& out, const PlainModel& plain, const Family& family) {
  const TransformerShape& s = plain.model.shape();
  out.text("general.architecture", family.names().architecture);
  GgufKeyWriter keys(out, family.names());
  keys.integer("context_length", s.block_size);
  keys.integer("embedding_length", s.features);
  keys.integer("block_count", s.layers);
  keys.integer("feed_forward_length", s.hidden);
  keys.integer("attention.head_count", s.heads);
  family.to_gguf(keys, *plain.component.resolved, s);
}

void write_tensors(GgufWriter& out, const PlainModel& plain, const Family& family,
                   GgufTensorType type) {
  const TransformerShape& shape = plain.model.shape();
  const std::string positions = shape.names.root + "." + shape.names.positions + ".weight";
  for (const auto& [name, value] : plain_state(plain)) {
    const bool matrix = value.rank() == 2 && name != positions;
    const Stored as_stored = stored(family, shape, name, value);
    out.tensor(gguf_name(shape, name), as_stored.shape(), matrix ? type : GgufTensorType::f32,
               as_stored);
    if (const std::string bias = missing_bias(family, shape, name); !bias.empty()) {
      const Shape size{value.size(-1)};
      out.tensor(gguf_name(shape, bias), size, GgufTensorType::f32,
                 [size] { return Tensor::zeros(size, DType::f32); });
    }
  }
}

}  // namespace

void write_gguf_model(GgufWriter& out, const PlainModel& plain, GgufTensorType type) {
  const Family* family = family_of_type(plain.component.type);
  require(family != nullptr, "no GGUF architecture expresses a \"{}\" model; known are {}",
          plain.component.type, known_types());
  write_keys(out, plain, *family);
  write_tensors(out, plain, *family, type);
}

}  // namespace reverie
