#include "trainers/training/carried_memory.h"

#include <cstring>

#include "core/error.h"
#include "trainers/distributed/agreement.h"

namespace reverie {
namespace {

// Tensors [rows, ..], one below the other, on the CPU.
Tensor stack_rows(const std::vector<Tensor>& pieces, const std::string& name) {
  Shape shape = pieces.front().shape();
  shape[0] = 0;
  for (const Tensor& t : pieces) {
    Shape other = t.shape();
    other[0] = shape[0];
    require(other == shape && t.dtype() == pieces.front().dtype(), "memory {}: {} beside {}", name,
            t, pieces.front());
    shape[0] += t.size(0);
  }
  Tensor all = Tensor::empty(shape, pieces.front().dtype());
  auto* to = static_cast<std::byte*>(all.mutable_raw());
  for (const Tensor& piece : pieces) {
    const Tensor t = piece.to(Device{}).contiguous();
    std::memcpy(to, t.raw(), t.bytes());
    to += t.bytes();
  }
  return all;
}

}  // namespace

NamedTensors CarriedMemory::whole(const BatchSplit& split, Communicator& communicator) const {
  NamedTensors all;
  if (parts_.empty()) return all;
  for (const auto& [name, first] : parts_.front().memory.values) {
    std::vector<Tensor> pieces;
    for (size_t i = 0; i < parts_.size(); ++i) {
      const Tensor& t = parts_[i].memory.values.at(name).tensor();
      require(t.rank() >= 1 && t.size(0) == split.parts()[i].rows,
              "the memory {} carried for {} sequences is {}: its first dimension must be the "
              "number of sequences",
              name, split.parts()[i].rows, t);
      pieces.push_back(t);
    }
    const Tensor mine = stack_rows(pieces, name);
    all.emplace_back(
        name, communicator.size() == 1 ? mine : gather_rows(communicator, mine, split.batch()));
  }
  return all;
}

std::map<std::string, int64_t> CarriedMemory::counters() const {
  return parts_.empty() ? std::map<std::string, int64_t>() : parts_.front().memory.counters;
}

void CarriedMemory::load(const BatchSplit& split, Device device, const NamedTensors& tensors,
                         const std::map<std::string, int64_t>& counters) {
  clear(split);
  for (const auto& [name, all] : tensors) {
    require(all.size(0) == split.batch(),
            "the checkpoint carries the memory {} of {} sequences, not {}", name, all.size(0),
            split.batch());
    for (size_t i = 0; i < parts_.size(); ++i) {
      const BatchPart& part = split.parts()[i];
      parts_[i].memory.values[name] =
          Variable(all.slice(0, part.first_row, part.first_row + part.rows).clone().to(device));
    }
  }
  for (SequenceState& state : parts_) state.memory.counters = counters;
}

NamedTensors take_earlier_memory(NamedTensors& optimizer) {
  std::map<std::string, std::map<int64_t, Tensor>> pieces;  // by name, then by part
  const std::string prefix = "memory.";
  for (const auto& [full, tensor] : optimizer) {
    if (!full.starts_with(prefix)) continue;
    const size_t dot = full.find('.', prefix.size());
    pieces[full.substr(dot + 1)][std::stoll(full.substr(prefix.size(), dot))] = tensor;
  }
  std::erase_if(optimizer, [&](const auto& named) { return named.first.starts_with(prefix); });
  NamedTensors memory;
  for (const auto& [name, by_part] : pieces) {
    std::vector<Tensor> in_order;
    for (const auto& [part, tensor] : by_part) in_order.push_back(tensor);
    memory.emplace_back(name, stack_rows(in_order, name));
  }
  return memory;
}

}  // namespace reverie
