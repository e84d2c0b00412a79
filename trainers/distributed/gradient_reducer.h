#pragma once
/// Adds up the gradients of a batch that is split over ranks, while backward still runs.

#include <vector>

#include "trainers/distributed/communicator.h"
#include "trainers/distributed/flat_gradients.h"

namespace reverie {

/// A rank runs one backward after another over the parts of a batch that are its own. In the last
/// one, gradients go on their way in buckets, those of the last layers first, as soon as all of a
/// bucket are there.
///
/// Terms of the sum are ranks: a rank's parts add up in its gradient buffers, as in one process. Or,
/// with `part_is_term`, the parts themselves: then every part's gradient is kept apart, and the sum
/// is taken in the order of a SumTree over the parts of the whole batch, which is the same for every
/// number of ranks, one included. That costs up to log2(parts) copies of the gradients.
class GradientReducer {
 public:
  GradientReducer(std::vector<FlatGradients> gradients, Communicator& communicator, SumTree tree,
                  bool part_is_term, int64_t bucket_bytes);
  ~GradientReducer();
  GradientReducer(const GradientReducer&) = delete;
  GradientReducer& operator=(const GradientReducer&) = delete;

  /// Around the backward of each of this rank's parts, in order.
  void begin_part(bool last);
  void end_part();
  /// Then the sums are there. Whether a gradient reached each parameter on this rank (in the order
  /// of construction) is asked for by reached(), and set_reached() says whether one did on any.
  void wait();
  std::vector<bool> reached() const;
  void set_reached(const std::vector<bool>&);

  int64_t buckets() const { return int64_t(buckets_.size()); }
  /// How many buckets were on their way before the last backward ended, in the last step.
  int64_t overlapped() const { return overlapped_; }

 private:
  struct Bucket {
    size_t flat = 0;             ///< which of gradients_
    int64_t begin = 0, end = 0;  ///< its elements
    int64_t first_order = 0;     ///< of the parameter that is ready last
    std::vector<size_t> parts;   ///< of that flat
    size_t missing = 0;          ///< parameters that are not ready yet
  };
  void make_buckets(int64_t bucket_bytes);
  void ready(size_t bucket);
  void launch(const Bucket&);
  void keep_apart();
  /// Where no gradient came, the buffer holds an older one.
  void zero_unreached(const FlatGradients&, const std::vector<size_t>& parts);
  void note_reached();
  bool idle() const { return communicator_.size() == 1 && !part_is_term_; }

  std::vector<FlatGradients> gradients_;
  Communicator& communicator_;
  SumTree tree_;
  bool part_is_term_;
  std::vector<Bucket> buckets_;  ///< in the order in which they are sent
  /// Sums of the parts before this one.
  std::vector<SumNode> nodes_;
  std::vector<std::vector<Tensor>> sums_;  ///< [node][flat]
  int64_t term_ = 0;
  bool last_ = false;
  size_t launched_ = 0;
  int64_t overlapped_ = 0;
  std::vector<Pending> pending_;
  std::vector<bool> reached_;
};

}  // namespace reverie
