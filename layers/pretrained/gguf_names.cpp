#include "layers/pretrained/gguf_names.h"

#include <vector>

#include "core/error.h"

namespace reverie {
namespace {

struct Name {
  std::string gguf, published;
};

// Tensors of the whole model, without "weight" or "bias".
std::vector<Name> whole_of(const TransformerShape::Names& n) {
  std::vector<Name> names = {{"token_embd", n.root + "." + n.embedding},
                             {"output_norm", n.root + "." + n.final_norm},
                             {"output", n.head}};
  if (!n.positions.empty()) names.push_back({"position_embd", n.root + "." + n.positions});
  return names;
}

// Parts of a block.
std::vector<Name> parts_of(const TransformerShape::Names& n) {
  std::vector<Name> names;
  const auto add = [&](const char* gguf, const std::string& inside, const std::string& part) {
    if (!part.empty()) names.push_back({gguf, inside.empty() ? part : inside + "." + part});
  };
  add("attn_norm", "", n.attention_norm);
  add("attn_qkv", n.attention, n.qkv);
  add("attn_q", n.attention, n.query);
  add("attn_k", n.attention, n.key);
  add("attn_v", n.attention, n.value);
  add("attn_q_norm", n.attention, n.query_norm);
  add("attn_k_norm", n.attention, n.key_norm);
  add("attn_output", n.attention, n.attention_out);
  add("post_attention_norm", "", n.attention_post_norm);
  add("ffn_norm", "", n.mlp_norm);
  add("ffn_gate", n.mlp, n.gate);
  add("ffn_up", n.mlp, n.up);
  add("ffn_down", n.mlp, n.down);
  add("post_ffw_norm", "", n.mlp_post_norm);
  return names;
}

// `name`, "stem.ending", by the tables; "" where they do not have it. `from`, `to`: the column to
// look in and the one to answer from; `begins`, `becomes`: how a block's names begin in each.
std::string translated(const TransformerShape& shape, const std::string& name,
                       std::string Name::*from, std::string Name::*to, const std::string& begins,
                       const std::string& becomes) {
  const size_t dot = name.rfind('.');
  if (dot == std::string::npos) return "";
  const std::string stem = name.substr(0, dot), ending = name.substr(dot);
  for (const Name& known : whole_of(shape.names))
    if (stem == known.*from) return known.*to + ending;
  const size_t second = stem.find('.', begins.size());
  if (!stem.starts_with(begins) || second == std::string::npos) return "";
  const std::string layer = stem.substr(begins.size(), second - begins.size()),
                    part = stem.substr(second + 1);
  for (const Name& known : parts_of(shape.names))
    if (part == known.*from) return becomes + layer + "." + known.*to + ending;
  return "";
}

std::string blocks_of(const TransformerShape& shape) {
  return shape.names.root + "." + shape.names.blocks + ".";
}

}  // namespace

std::string published_name(const TransformerShape& shape, const std::string& name) {
  const std::string published =
      translated(shape, name, &Name::gguf, &Name::published, "blk.", blocks_of(shape));
  return published.empty() ? name : published;
}

std::string gguf_name(const TransformerShape& shape, const std::string& name) {
  std::string gguf =
      translated(shape, name, &Name::published, &Name::gguf, blocks_of(shape), "blk.");
  if (gguf.empty()) throw InternalError(fmt::format("GGUF has no name for the tensor {}", name));
  return gguf;
}

}  // namespace reverie
