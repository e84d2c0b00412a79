#pragma once
/// Ranks that must not differ: checked, never assumed.

#include <string>

#include "core/config.h"
#include "core/tensor.h"
#include "trainers/distributed/communicator.h"

namespace reverie {

/// ConfigError on every rank, naming the first rank that differs from rank 0 and how, unless `mine`
/// is the same on all: {"build": .., "config": .., "data": ..}.
void require_same_on_all_ranks(Communicator& communicator, const Json& mine);

/// InternalError on every rank unless `hash` is the same on all; `what` is hashed: "weights after
/// step 500".
void require_same_hash(Communicator& communicator, const std::string& what,
                       const std::string& hash);

/// Tensors [rows, ..] of which every rank has some rows, in the order of ranks: all of them, on
/// every rank.
Tensor gather_rows(Communicator& communicator, const Tensor& mine, int64_t rows_of_all);

}  // namespace reverie
