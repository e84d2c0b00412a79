#pragma once
/// Trained parameters and their gradients in flat buffers, whatever optimizer updates them.

#include <map>
#include <optional>
#include <string>
#include <vector>

#include "layers/module.h"
#include "trainers/distributed/communicator.h"
#include "trainers/distributed/flat_gradients.h"
#include "trainers/optimizers/parameter_bucket.h"
#include "trainers/optimizers/sharded_masters.h"

namespace reverie {

/// The buckets of FlatParameters, without memory: members, offsets, and where so many shares end.
std::vector<ParameterBucket> flat_layout(const Module&, int shares);

/// The parameters of a module that require a gradient lie in two buckets: matrices (two or more
/// dimensions) and vectors. After construction the module's Variables are views into them. Frozen
/// parameters stay where they are.
///
/// With `shard` (ZeRO-1: Rajbhandari et al., "ZeRO: Memory Optimizations Toward Training Trillion
/// Parameter Models", 2020) each rank updates a share of every bucket and gets the rest from the
/// others. Shares end between parameters, so that an optimizer sees whole matrices.
///
/// With `round`, matrices of f32 have a copy in bf16 beside them, for products of bf16. With both,
/// a rank keeps the f32 values of its own share of the matrices alone (ShardedMasters):
/// gather_values() gives the model all of them.
class FlatParameters {
 public:
  using Bucket = ParameterBucket;
  using Member = ParameterBucket::Member;

  explicit FlatParameters(Module& module, Communicator& communicator = single_communicator(),
                          bool shard = false, bool round = false);
  FlatParameters(const FlatParameters&) = delete;
  FlatParameters& operator=(const FlatParameters&) = delete;

  Bucket& matrices() { return buckets_[0]; }
  Bucket& vectors() { return buckets_[1]; }
  const std::vector<Bucket>& buckets() const { return buckets_; }
  Communicator& communicator() const { return communicator_; }
  bool sharded() const { return sharded_; }
  /// Whether ranks keep f32 values of their own shares of the matrices alone.
  bool shards_masters() const { return masters_.has_value(); }
  /// Bytes of f32 or f64 values that this rank keeps between steps.
  size_t value_bytes() const;

  /// Before a step: rounds again what was written since, by other than an optimizer that does it
  /// while it updates. A collective behind gather_values(), where masters are sharded.
  void round_matrices();
  /// Every parameter has its f32 values on every rank from now until round_matrices(), as after
  /// construction. Where masters are sharded, a collective that loses the gradients; else nothing.
  void gather_values();
  void clear_gradients();
  std::vector<FlatGradients> flat_gradients() const;
  /// Global L2 norm over all gradients, in double. Gradients that no backward reached become 0.
  double gradient_norm();
  /// A text that the same weights give again: a hash of those that this rank keeps; on a GPU, of
  /// their norm.
  std::string fingerprint() const;
  /// Hash of the copies in bf16 that ranks get from each other; "" where they do not.
  std::string hash_of_copies() const;
  /// Whether every parameter is a finite number, behind gather_values().
  bool finite() const;

  /// The elements of `flat`, the values or whatever is laid out as the bucket, that this rank
  /// updates.
  Tensor own_share(const Bucket&, const Tensor& flat) const;
  /// Whether this rank updates the member.
  bool owns(const Bucket&, const Member&) const;
  /// Gives this rank's updated values to the others and takes theirs. A collective, where sharded.
  void exchange_values(Bucket&);

 private:
  /// The values that this rank keeps, in a fixed order.
  std::vector<Tensor> kept_values() const;

  Communicator& communicator_;
  bool sharded_;
  std::vector<Bucket> buckets_;
  std::optional<ShardedMasters> masters_;  ///< of the matrices
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
