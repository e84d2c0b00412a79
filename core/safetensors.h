#pragma once
// Hugging Face safetensors files (8-byte header length, JSON header, raw little-endian tensors).

#include <map>
#include <string>
#include <vector>

#include "core/tensor.h"

namespace reverie {

using NamedTensors = std::vector<std::pair<std::string, Tensor>>;  // in file order

struct SafetensorsFile {
  NamedTensors tensors;  // views of the mapped file; CPU
  std::map<std::string, std::string> metadata;
  const Tensor& at(const std::string& name) const;  // DataError when absent, with the nearest name
  const Tensor* find(const std::string& name) const;
};

// Maps the file read-only. A truncated or hostile header (length beyond the file or 100 MB, offsets negative, overlapping,
// out of range or not matching shape and dtype, products that overflow, duplicate names) is refused with DataError before
// anything is allocated for it.
SafetensorsFile read_safetensors(const std::string& file);

// Writes (and fsyncs) the file; the data start is aligned to 64 bytes by padding the header with spaces. MachineError when the disk is full.
void write_safetensors(const std::string& file, const NamedTensors& tensors,
                       const std::map<std::string, std::string>& metadata = {});

}  // namespace reverie
