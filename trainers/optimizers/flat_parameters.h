#pragma once
/// Trained parameters and their gradients in flat buffers, whatever optimizer updates them.

#include <map>
#include <string>
#include <vector>

#include "layers/module.h"
#include "trainers/distributed/communicator.h"
#include "trainers/distributed/flat_gradients.h"

namespace reverie {

/// The parameters of a module that require a gradient lie in two buckets: matrices (two or more
/// dimensions) and vectors. After construction the module's Variables are views into them. Frozen
/// parameters stay where they are.
///
/// With `shard` (ZeRO-1: Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion
/// Parameter Models", 2020) each rank updates a share of every bucket and gets the rest from the
/// others. Shares end between parameters, so that an optimizer sees whole matrices.
///
/// With `round`, matrices of f32 have a copy in bf16 beside them, for products of bf16.
class FlatParameters {
 public:
  struct Member {
    std::string name;
    Variable variable;
    int64_t offset = 0;  ///< in elements of the bucket
    int64_t order = 0;   ///< of construction, over all buckets
  };
  struct Bucket {
    std::vector<Member> members;
    Tensor values, gradients;    ///< [elements], each member at a multiple of 64 bytes
    Tensor rounded;              ///< `values` in bf16 (core/rounded_copy.h), where that is kept
    std::vector<int64_t> begin;  ///< of every rank's share, in elements; the last entry is the end
  };

  explicit FlatParameters(Module& module, Communicator& communicator = single_communicator(),
                          bool shard = false, bool round = false);
  FlatParameters(const FlatParameters&) = delete;
  FlatParameters& operator=(const FlatParameters&) = delete;

  Bucket& matrices() { return buckets_[0]; }
  Bucket& vectors() { return buckets_[1]; }
  const std::vector<Bucket>& buckets() const { return buckets_; }
  Communicator& communicator() const { return communicator_; }
  bool sharded() const { return sharded_; }

  /// Rounds again what was written since, by other than an optimizer that does it while it updates:
  /// before a step.
  void round_matrices();
  void clear_gradients();
  std::vector<FlatGradients> flat_gradients() const;
  /// Global L2 norm over all gradients, in double. Gradients that no backward reached become 0.
  double gradient_norm();
  /// A text that the same weights give again: a hash of them all; on a GPU, of their norm.
  std::string fingerprint() const;
  /// Whether every parameter is a finite number.
  bool finite() const;

  /// The elements of `flat`, laid out as the bucket, that this rank updates.
  Tensor own_share(const Bucket&, const Tensor& flat) const;
  /// Whether this rank updates the member.
  bool owns(const Bucket&, const Member&) const;
  /// Gives this rank's updated values to the others and takes theirs. A collective, where sharded.
  void exchange_values(Bucket&);

 private:
  /// Over all parameters, in double and in a fixed order.
  double sum_of_squares() const;

  Communicator& communicator_;
  bool sharded_;
  std::vector<Bucket> buckets_;
};

/// Numbers that an optimizer keeps between steps for some members of a bucket, in one flat tensor:
/// of those of this rank's share alone.
class FlatState {
 public:
  /// `prefix` names the tensors in a checkpoint: "m." and the parameter's name. `members`: in the
  /// order of the bucket.
  FlatState(FlatParameters& parameters, FlatParameters::Bucket& bucket, std::string prefix,
            std::vector<const FlatParameters::Member*> members);
  /// All of the bucket's members: laid out as its own share.
  FlatState(FlatParameters& parameters, FlatParameters::Bucket& bucket, std::string prefix);

  const Tensor& flat() const { return flat_; }  ///< this rank's
  /// One member's, in its shape; of this rank's share.
  Tensor of(const FlatParameters::Member&) const;
  size_t bytes() const { return flat_.bytes(); }

  /// By name, complete on the first rank whatever the sharding; others add nothing. A collective.
  void append_to(NamedTensors&) const;
  /// Takes what has its names out of `given`. UserError where one is missing or has another shape.
  void load(std::map<std::string, const Tensor*>& given);

 private:
  struct Place {
    const FlatParameters::Member* member;
    int64_t offset;
  };
  void name_places(const Tensor& whole, NamedTensors& out) const;

  FlatParameters& parameters_;
  std::string prefix_;
  std::vector<Place> places_;
  std::vector<int64_t> begin_;  ///< of every rank's share of the places
  Tensor flat_;
};

}  // namespace reverie
