#pragma once
/// Hugging Face safetensors files (8-byte header length, JSON header, raw little-endian tensors).

#include <functional>
#include <map>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace reverie {

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;  ///< in file order

struct SafetensorsFile {
  NamedTensors tensors;  ///< views of the mapped file; CPU
  std::map<std::string, std::string> metadata;
  const Tensor& at(const std::string& name) const;  ///< DataError with the nearest name when absent
  const Tensor* find(const std::string& name) const;  ///< null when absent
};

/// Maps the file read-only. Dtypes F64 F32 BF16 F16 I64 I32 U16 U8, at most kMaxRank dimensions. A
/// truncated or hostile header (length beyond the file or 100 MB, offsets negative, overlapping,
/// with holes, out of range or not matching shape and dtype, products that overflow, duplicate
/// names) is refused with DataError before anything is allocated for it. A tensor that another
/// program stored misaligned for its dtype is copied. UserError when the file cannot be read.
/// Tensors of which `unwanted` (may be empty) says so by their name are left out, and may have any
/// other dtype.
SafetensorsFile read_safetensors(const std::string& file,
                                 const std::function<bool(const std::string& name)>& unwanted = {});

/// Writes the file atomically (see write_file_atomically); any strides, any device. The data start
/// is aligned to 64 bytes by padding the header with spaces, and each tensor to its element by
/// storing wide dtypes first. UserError for undefined tensors and duplicate names, MachineError when
/// the disk is full.
void write_safetensors(const std::string& file, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace reverie
