#pragma once
/// Latents of one or several coprocessors in the text that generate() writes.

#include <memory>
#include <vector>

#include "trainers/generation/latent_supplier.h"
#include "trainers/generation/text_without_latents.h"

namespace reverie {

class ArrivingLatents {
 public:
  /// UserError where they do not go together or do not fit.
  explicit ArrivingLatents(std::vector<std::shared_ptr<LatentSupplier>> suppliers);

  bool none() const { return suppliers_.empty(); }
  /// Most rows of the context: the base's own. Texts in training are shorter, for what stands behind
  /// them.
  int64_t block_size(const LanguageModel& model) const;
  /// Rows of the context that are taken: by latents in it, and, before the prompt has been read, by
  /// those that go in right behind it.
  int64_t rows() const { return rows_; }

  /// The prompt has been read: arguments as those of AugmentedModel::latents_for(). Whether room was
  /// kept for latents that do not come.
  bool begin(const SequenceState& read, const Variable& hidden, const Tensor& tokens);
  /// Those that go in behind `written` tokens are held for insert(); how many rows they will take.
  int64_t collect(int64_t written);
  /// The context begins anew: latents in it are gone.
  void forget() { rows_ = 0; }
  /// Puts in what was collected behind the last tokens i32 [N, 1] -> final hidden states [N, 1, C]
  /// that predict the next token.
  Variable insert(int64_t written, SequenceState& state, const Tensor& last);

  /// The only supplier's; {} where there are others.
  LatentRenewal renewal() const { return none() ? LatentRenewal() : suppliers_[0]->renewal(); }
  /// Rows of the latents that renewal() puts in.
  int64_t renewed_rows() const { return suppliers_[0]->rows(); }
  /// `text` reads `more`, and its latents take the place of the old ones; arguments as those of
  /// TextWithoutLatents::continued().
  Variable renew(TextWithoutLatents& text, const Tensor& more, const Tensor& late,
                 SequenceState& state);

 private:
  struct Collected {
    std::shared_ptr<LatentSupplier> from;
    Variable latents;
  };
  std::vector<std::shared_ptr<LatentSupplier>> suppliers_, waiting_;
  std::vector<Collected> collected_;
  int64_t rows_ = 0;
};

}  // namespace reverie
