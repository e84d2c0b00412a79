#pragma once
/// Parameters side by side in one flat buffer, and their gradients in another.

#include <string>
#include <vector>

#include "autograd/variable.h"

namespace reverie {

struct ParameterBucket {
  struct Member {
    std::string name;
    Variable variable;
    int64_t offset = 0;  ///< in elements of the bucket
    int64_t order = 0;   ///< of construction, over all buckets
  };
  std::vector<Member> members;
  Tensor values;               ///< [elements]; of this rank's share alone under ShardedMasters
  Tensor gradients;            ///< [elements], each member at a multiple of 64 bytes
  Tensor rounded;              ///< the values in bf16 (core/rounded_copy.h), where that is kept
  std::vector<int64_t> begin;  ///< of every rank's share, in elements; the last entry is the end

  /// The rank that updates a member, where each has a share.
  int owner(const Member& member) const {
    int rank = 0;
    while (member.offset >= begin[size_t(rank) + 1]) ++rank;
    return rank;
  }
};

}  // namespace reverie
