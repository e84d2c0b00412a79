#pragma once
/// Module: named parameters in a tree.

#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

#include "autograd/variable.h"
#include "core/random.h"
#include "core/safetensors.h"

namespace reverie {

/// Arguments of constructors that make parameters.
struct Build {
  Generator& random;  ///< initial values are drawn in the order of construction
  DType dtype = DType::f32;
  Device device = {};
  /// false: weights are about to be loaded, so nothing is drawn for them and their bytes are
  /// whatever the allocator gives.
  bool initialize = true;
  /// With initialize == false: weights lie on the CPU, where pages that nobody touches cost nothing,
  /// until they are loaded to their place.
  bool weights_on_host = false;

  /// A weight's initial value: normal around 0.
  Tensor weights(const Shape& shape, double stddev) const {
    return initialize ? random.normal(shape, 0, stddev, dtype).to(device)
                      : Tensor::empty(shape, dtype, weights_on_host ? Device{} : device);
  }
};

/// A tensor known by name and shape whose values are read when their turn comes: mapped, converted
/// or dequantised one at a time.
struct StoredTensor {
  std::string name;
  Shape shape;
  DType dtype;  ///< as stored, for messages
  std::function<Tensor()> read;
};

class Module {
 public:
  Module() = default;
  virtual ~Module() = default;
  Module(const Module&) = delete;
  Module& operator=(const Module&) = delete;

  /// Full names ("transformer.h.3.attn.c_attn.weight") in the order of construction.
  std::vector<std::pair<std::string, Variable>> parameters() const;
  int64_t parameter_count() const;
  void freeze(bool frozen = true);  ///< all parameters below
  bool trained() const;             ///< any parameter below requires a gradient
  void train(bool on = true);       ///< dropout on or off, for all modules below
  bool training() const { return training_; }
  /// This module and all below, in the order of construction.
  void each(const std::function<void(Module&)>& visit);
  /// Every parameter becomes that of the same name in `owner`: the same bytes, frozen, and from now
  /// on the owner's business, so that they are no longer among this module's parameters (neither
  /// trained, nor hashed, nor saved with it). What is added to the module later is its own. For a
  /// second network on a model's weights. UserError where names or shapes differ, or the owner is
  /// trained.
  void borrow(const Module& owner);

  NamedTensors state() const;
  /// Hash of the names, shapes, dtypes and bytes of all parameters (XXH3-128, 32 hexadecimal
  /// digits): says whether weights are still the same, and whose keys and values a cache holds.
  std::string weights_hash() const;
  /// Copies values into the parameters, cast to their dtype. One UserError lists everything missing,
  /// unexpected, transposed and wrongly shaped, before anything is changed; `strict` false ignores
  /// unexpected names.
  void load(const NamedTensors& tensors, bool strict = true);
  void load(const std::vector<StoredTensor>& tensors, bool strict = true);

 protected:
  /// `read_by`: see Variable::read_by().
  Variable parameter(std::string name, Tensor initial, ReadBy read_by = ReadBy::any);
  template <class M, class... A>
  M& child(const std::string& name, A&&... arguments) {
    return static_cast<M&>(adopt(name, std::make_unique<M>(std::forward<A>(arguments)...)));
  }
  /// An empty name adds the child's parameters under this module's own.
  Module& adopt(std::string name, std::unique_ptr<Module>);

 private:
  struct Entry {
    std::string name;
    Variable variable;
    std::unique_ptr<Module> module;
    bool borrowed = false;  ///< another module's
  };
  void mark_borrowed();
  void collect(const std::string& prefix, std::vector<std::pair<std::string, Variable>>& out) const;
  std::vector<Entry> entries_;  ///< parameters and children, in order
  bool training_ = true;
};

}  // namespace reverie
