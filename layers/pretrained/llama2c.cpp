// llama2.c's legacy format: seven i32 (dim, hidden, layers, heads, kv_heads, vocabulary, longest
// sequence; a negative vocabulary: the output projection stands at the end), then f32 tensors of
// all layers one kind after another.

#include <array>
#include <cstring>
#include <utility>

#include "core/error.h"
#include "core/files.h"
#include "layers/pretrained/formats.h"

namespace reverie {
namespace {

constexpr int32_t kLaterMagic = 0x616b3432;  // "ak42", of versions 1 and 2

struct Header {
  int64_t dim, hidden, layers, heads, kv_heads, vocabulary, length;
  bool tied;
};

Header read_header(const Storage& mapped, const std::string& file) {
  std::array<int32_t, 7> h{};
  if (mapped.bytes() < sizeof(h))
    throw DataError(
        fmt::format("{}: {} bytes are too few for a llama2.c model", file, mapped.bytes()));
  std::memcpy(h.data(), mapped.data(), sizeof(h));
  if (h[0] == kLaterMagic)
    throw DataError(
        fmt::format("{}: llama2.c format version {}; only the legacy format (export with "
                    "--version 0) is read here",
                    file, h[1]));
  const Header r{h[0], h[1], h[2], h[3], h[4], std::abs(int64_t(h[5])), h[6], h[5] > 0};
  const bool sound = r.dim > 0 && r.hidden > 0 && r.layers > 0 && r.layers <= 1000 && r.heads > 0 &&
                     r.kv_heads > 0 && r.vocabulary > 0 && r.length > 0 && r.dim % r.heads == 0 &&
                     r.heads % r.kv_heads == 0 && r.dim / r.heads % 2 == 0;
  if (!sound)
    throw DataError(
        fmt::format("{}: no llama2.c model: its header says dim {}, hidden {}, layers {}, heads "
                    "{}, kv_heads {}, "
                    "vocabulary {}, length {}",
                    file, h[0], h[1], h[2], h[3], h[4], h[5], h[6]));
  return r;
}

}  // namespace

PretrainedFiles open_llama2c(const std::string& file) {
  const std::shared_ptr<Storage> mapped = map_file(file);
  const Header h = read_header(*mapped, file);
  const int64_t head = h.dim / h.heads, kv = h.kv_heads * head;

  // Doubles: sizes that overflow 64 bits only need to differ from the file's.
  const double layer =
      double(h.dim) * (2 * double(h.dim) + 2 * double(kv) + 3 * double(h.hidden) + 2);
  const double floats = double(h.vocabulary) * double(h.dim) * (h.tied ? 1 : 2) +
                        double(h.layers) * layer + double(h.dim) + double(h.length) * double(head);
  if (28 + 4 * floats != double(mapped->bytes()))
    throw DataError(
        fmt::format("{}: {} bytes, but its header describes a llama2.c model of {:.0f}; "
                    "the file is truncated or of another kind",
                    file, mapped->bytes(), 28 + 4 * floats));

  PretrainedFiles out;
  out.component = {
      {"type", "llama"},         {"vocab_size", h.vocabulary}, {"block_size", h.length},
      {"n_layer", h.layers},     {"n_head", h.heads},          {"n_embd", h.dim},
      {"n_kv_head", h.kv_heads}, {"n_hidden", h.hidden},       {"rope_theta", 10000.0},
      {"rms_norm_eps", 1e-5},    {"tie_weights", h.tied}};
  out.bos = 1;
  out.ends = {2};

  int64_t at = 7;  // in floats
  const auto take = [&](const std::string& name, const Shape& shape, int64_t turned_heads = 0) {
    const Tensor t = Tensor::over(mapped, shape, DType::f32, at);
    at += t.numel();
    if (!turned_heads) out.in_place.insert(name);
    StoredTensor stored{name, shape, DType::f32, [t] { return t; }};
    out.tensors.push_back(turned_heads ? half_split_rows(std::move(stored), turned_heads)
                                       : std::move(stored));
  };
  const auto of_every_layer = [&](const std::string& name, const Shape& shape,
                                  int64_t turned_heads = 0) {
    for (int64_t i = 0; i < h.layers; ++i)
      take(fmt::format("model.layers.{}.{}.weight", i, name), shape, turned_heads);
  };
  take("model.embed_tokens.weight", {h.vocabulary, h.dim});
  of_every_layer("input_layernorm", {h.dim});
  of_every_layer("self_attn.q_proj", {h.dim, h.dim}, h.heads);
  of_every_layer("self_attn.k_proj", {kv, h.dim}, h.kv_heads);
  of_every_layer("self_attn.v_proj", {kv, h.dim});
  of_every_layer("self_attn.o_proj", {h.dim, h.dim});
  of_every_layer("post_attention_layernorm", {h.dim});
  of_every_layer("mlp.gate_proj", {h.hidden, h.dim});
  of_every_layer("mlp.down_proj", {h.dim, h.hidden});
  of_every_layer("mlp.up_proj", {h.hidden, h.dim});
  take("model.norm.weight", {h.dim});
  at += h.length * head;  // cosines and sines: computed here
  if (!h.tied) take("lm_head.weight", {h.vocabulary, h.dim});
  return out;
}

}  // namespace reverie
