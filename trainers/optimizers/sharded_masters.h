#pragma once
/// Matrices in bf16 on every rank, whose f32 values (masters) each rank keeps of its own share
/// alone.

#include "trainers/distributed/communicator.h"
#include "trainers/optimizers/parameter_bucket.h"

namespace reverie {

/// ZeRO-1 (Rajbhandari et al. 2020) with the master weights sharded as the optimizer's moments are.
/// A rank has in f32 the members of its own share, and those of others' that something else than a
/// product reads (Variable::read_by(): embeddings, for instance). Of all others it has the copy in
/// bf16, which their owner rounds: what a product of bf16 reads where every rank has all in f32, to
/// the bit.
///
/// For evaluations and checkpoints, gather() brings the rest of the f32 values; they lie where the
/// gradients do, which are not wanted then.
class ShardedMasters {
 public:
  /// `bucket` has shares and memory for gradients. Its values become those of this rank's share,
  /// and it gets copies in bf16, which are made when the parameters have left their own memory. All
  /// values are there, as after gather().
  ShardedMasters(ParameterBucket& bucket, Communicator& communicator);

  /// Before a training step: ends gather(). A collective after gather(), else nothing. UserError
  /// where f32 values that this rank keeps were written since the last exchange().
  void begin_step();
  /// Gives what this rank wrote of its share to the others, and takes theirs. A collective.
  void exchange();
  /// From now on every member has its f32 values, and no gradient, until begin_step(). A
  /// collective.
  void gather();

  /// The f32 values that stay here between steps: first those of this rank's share.
  std::vector<Tensor> kept() const;
  /// Those that gather() brought.
  std::vector<Tensor> gathered() const;

 private:
  using Member = ParameterBucket::Member;
  struct Elsewhere {
    size_t member;
    Tensor rounded;  ///< core/rounded_copy.h: only_rounded()
  };
  Tensor own_rounded() const;
  Tensor rounded_of(const Member&) const;
  Tensor place_in_gradients(const Member&) const;
  void keep_copies();
  void hide_gradients();

  ParameterBucket& bucket_;
  Communicator& communicator_;
  int64_t begin_, end_;               ///< this rank's share
  std::vector<size_t> read_in_f32_;   ///< members that every rank has so
  std::vector<Elsewhere> elsewhere_;  ///< members that this rank has in bf16 alone
  bool gathered_ = true;
};

}  // namespace reverie
