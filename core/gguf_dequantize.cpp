// Blocks of few bits to f32, with the same roundings in the same order as the Python package
// `gguf`. This file is compiled without contraction of a * b + c into one rounding
// (CMakeLists.txt).

#include <bit>
#include <cstring>

#include "core/compact_weights.h"
#include "core/dtype.h"
#include "core/error.h"
#include "core/gguf.h"

namespace reverie {
namespace {

constexpr struct {
  uint32_t type;
  GgufLayout layout;
} kLayouts[] = {
    {0, {"F32", 1, 4, true}},          {1, {"F16", 1, 2, true}},
    {2, {"Q4_0", 32, 18, true}},       {3, {"Q4_1", 32, 20, true}},
    {6, {"Q5_0", 32, 22, true}},       {7, {"Q5_1", 32, 24, true}},
    {8, {"Q8_0", 32, 34, true}},       {9, {"Q8_1", 32, 40, false}},
    {10, {"Q2_K", 256, 84, false}},    {11, {"Q3_K", 256, 110, false}},
    {12, {"Q4_K", 256, 144, true}},    {13, {"Q5_K", 256, 176, true}},
    {14, {"Q6_K", 256, 210, true}},    {15, {"Q8_K", 256, 292, false}},
    {16, {"IQ2_XXS", 256, 66, false}}, {17, {"IQ2_XS", 256, 74, false}},
    {18, {"IQ3_XXS", 256, 98, false}}, {19, {"IQ1_S", 256, 50, false}},
    {20, {"IQ4_NL", 32, 18, false}},   {21, {"IQ3_S", 256, 110, false}},
    {22, {"IQ2_S", 256, 82, false}},   {23, {"IQ4_XS", 256, 136, false}},
    {24, {"I8", 1, 1, false}},         {25, {"I16", 1, 2, false}},
    {26, {"I32", 1, 4, false}},        {27, {"I64", 1, 8, false}},
    {28, {"F64", 1, 8, false}},        {29, {"IQ1_M", 256, 56, false}},
    {30, {"BF16", 1, 2, true}},        {34, {"TQ1_0", 256, 54, false}},
    {35, {"TQ2_0", 256, 66, false}},   {39, {"MXFP4", 32, 17, false}},
};

float load_half(const uint8_t* bytes) {
  Float16 half;
  std::memcpy(&half.bits, bytes, 2);
  return float(half);
}

uint8_t low(uint8_t byte) {
  return byte & 15u;
}
uint8_t high(uint8_t byte) {
  return byte >> 4;
}

// One block each. `in` is the block's bytes, `out` its elements.

void f16(const uint8_t* in, float* out) {
  *out = load_half(in);
}

void bf16(const uint8_t* in, float* out) {
  *out = std::bit_cast<float>(uint32_t(in[0]) << 16 | uint32_t(in[1]) << 24);
}

void q8_0(const uint8_t* in, float* out) {
  const float d = load_half(in);
  for (int i = 0; i < 32; ++i) out[i] = float(int8_t(in[2 + i])) * d;
}

void q4_0(const uint8_t* in, float* out) {
  const float d = load_half(in);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * float(low(in[2 + i]) - 8);
    out[i + 16] = d * float(high(in[2 + i]) - 8);
  }
}

void q4_1(const uint8_t* in, float* out) {
  const float d = load_half(in), m = load_half(in + 2);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * float(low(in[4 + i])) + m;
    out[i + 16] = d * float(high(in[4 + i])) + m;
  }
}

// The fifth bits of 32 elements are one little-endian number.
int fifth_bit(const uint8_t* bits, int i) {
  return (bits[i / 8] >> (i % 8) & 1) << 4;
}

void q5_0(const uint8_t* in, float* out) {
  const float d = load_half(in);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * float((low(in[6 + i]) | fifth_bit(in + 2, i)) - 16);
    out[i + 16] = d * float((high(in[6 + i]) | fifth_bit(in + 2, i + 16)) - 16);
  }
}

void q5_1(const uint8_t* in, float* out) {
  const float d = load_half(in), m = load_half(in + 2);
  for (int i = 0; i < 16; ++i) {
    out[i] = d * float(low(in[8 + i]) | fifth_bit(in + 4, i)) + m;
    out[i + 16] = d * float(high(in[8 + i]) | fifth_bit(in + 4, i + 16)) + m;
  }
}

// The 6-bit scale and minimum of group i of 8, packed into 12 bytes: the first four of each in
// whole bytes' low six bits, the others in the remaining bits.
struct ScaleMin {
  float scale, minimum;
};
ScaleMin scale_min(const uint8_t* packed, int i) {
  if (i < 4) return {float(packed[i] & 63u), float(packed[i + 4] & 63u)};
  return {float(low(packed[i + 4]) | (packed[i - 4] >> 6) << 4),
          float(high(packed[i + 4]) | (packed[i] >> 6) << 4)};
}

void q4_k(const uint8_t* in, float* out) {
  const float d = load_half(in), dmin = load_half(in + 2);
  const uint8_t *scales = in + 4, *quants = in + 16;
  for (int group = 0; group < 8; ++group) {  // 32 elements: low or high halves of 32 bytes
    const ScaleMin s = scale_min(scales, group);
    const float scale = d * s.scale, minimum = dmin * s.minimum;
    const uint8_t* bytes = quants + group / 2 * 32;
    for (int i = 0; i < 32; ++i)
      out[group * 32 + i] = scale * float(group % 2 ? high(bytes[i]) : low(bytes[i])) - minimum;
  }
}

void q5_k(const uint8_t* in, float* out) {
  const float d = load_half(in), dmin = load_half(in + 2);
  const uint8_t *scales = in + 4, *fifth = in + 16, *quants = in + 48;
  for (int group = 0; group < 8; ++group) {
    const ScaleMin s = scale_min(scales, group);
    const float scale = d * s.scale, minimum = dmin * s.minimum;
    const uint8_t* bytes = quants + group / 2 * 32;
    for (int i = 0; i < 32; ++i) {
      const int quant = (group % 2 ? high(bytes[i]) : low(bytes[i])) | (fifth[i] >> group & 1) << 4;
      out[group * 32 + i] = scale * float(quant) - minimum;
    }
  }
}

void q6_k(const uint8_t* in, float* out) {
  const uint8_t *low_bits = in, *high_bits = in + 128, *scales = in + 192;
  const float d = load_half(in + 208);
  for (int i = 0; i < 256; ++i) {
    const int half = i / 128, row = i % 128 / 32, column = i % 32;
    const uint8_t byte = low_bits[half * 64 + row % 2 * 32 + column];
    const int quant =
        (row < 2 ? low(byte) : high(byte)) | (high_bits[half * 32 + column] >> (2 * row) & 3) << 4;
    out[i] = d * float(int8_t(scales[i / 16])) * float(quant - 32);
  }
}

using Unpack = void (*)(const uint8_t*, float*);
Unpack unpack_of(uint32_t type) {
  switch (type) {
    case 1:
      return f16;
    case 2:
      return q4_0;
    case 3:
      return q4_1;
    case 6:
      return q5_0;
    case 7:
      return q5_1;
    case 8:
      return q8_0;
    case 12:
      return q4_k;
    case 13:
      return q5_k;
    case 14:
      return q6_k;
    case 30:
      return bf16;
    default:
      return nullptr;
  }
}

}  // namespace

const GgufLayout* gguf_layout(uint32_t type) {
  for (const auto& known : kLayouts)
    if (known.type == type) return &known.layout;
  return nullptr;
}

void detail::dequantize_blocks(CompactType type, const std::byte* in, int64_t blocks, float* out) {
  const GgufLayout& layout = *gguf_layout(uint32_t(type));
  const auto* bytes = reinterpret_cast<const uint8_t*>(in);
  const Unpack unpack = unpack_of(uint32_t(type));
#pragma omp parallel for schedule(static) if (blocks > 10000)
  for (int64_t i = 0; i < blocks; ++i)
    unpack(bytes + size_t(i) * layout.bytes, out + size_t(i) * layout.elements);
}

Tensor GgufFile::compact(const GgufTensor& tensor) const {
  const GgufLayout& layout = *gguf_layout(tensor.type);
  if (!layout.readable || tensor.type == 0 || tensor.shape.rank() != 2) return dequantize(tensor);
  const int64_t rows = tensor.shape[0], columns = tensor.shape[1];
  return compact_tensor({CompactType(tensor.type), tensor.bytes.data(),
                         columns / int64_t(layout.elements) * int64_t(layout.bytes), rows, columns},
                        mapped);
}

Tensor GgufFile::dequantize(const GgufTensor& tensor) const {
  const GgufLayout& layout = *gguf_layout(tensor.type);
  if (!layout.readable)
    throw DataError(fmt::format(
        "{}: tensor \"{}\" is stored as {}, which is not supported; wanted F32 F16 BF16 Q8_0 Q4_0 "
        "Q4_1 Q5_0 Q5_1 Q4_K Q5_K or Q6_K",
        path, tensor.name, layout.name));
  if (tensor.bytes.empty()) return Tensor::empty(tensor.shape, DType::f32);
  if (tensor.type == 0) {  // aligned, because data begins at a multiple of 8 bytes
    const auto offset = tensor.bytes.data() - static_cast<const std::byte*>(mapped->data());
    return Tensor::over(mapped, tensor.shape, DType::f32, offset / 4);
  }
  Tensor result = Tensor::empty(tensor.shape, DType::f32);
  detail::dequantize_blocks(CompactType(tensor.type), tensor.bytes.data(),
                            int64_t(tensor.bytes.size() / layout.bytes),
                            result.mutable_data<float>());
  return result;
}

}  // namespace reverie
