#include "trainers/generation/arriving_latents.h"

#include <algorithm>
#include <utility>

#include "core/error.h"

namespace reverie {

ArrivingLatents::ArrivingLatents(std::vector<std::shared_ptr<LatentSupplier>> suppliers)
    : suppliers_(std::move(suppliers)) {
  int64_t all = 0;
  for (const auto& supplier : suppliers_) {
    const AugmentedModel &model = supplier->model(), &first = suppliers_[0]->model();
    require(suppliers_.size() == 1 || supplier->model().source().mask().tokens_see_text,
            "the latents \"{}\" hide the text from the tokens behind them, and so the latents of "
            "other coprocessors: use them alone",
            model.options().latents.type);
    require(model.base().block_size() == first.base().block_size() &&
                model.vocabulary_size() == first.vocabulary_size(),
            "coprocessors of different bases cannot write into one text");
    all += supplier->rows();
    if (supplier->at_once()) rows_ += supplier->rows();
    require(
        supplier->renewal().every == 0 || suppliers_.size() == 1,
        "latents that are made anew take the place of all that the text has, but {} coprocessors "
        "write into it: name one, or leave latents_every out",
        suppliers_.size());
  }
  if (suppliers_.empty()) return;
  const int64_t room = suppliers_[0]->model().base().block_size();
  require(all < room,
          "{} latents of {} coprocessors leave no room for a text: the base's block_size is {}",
          all, suppliers_.size(), room);
  const int64_t late = renewal().every > 0 ? renewal().late : 0;
  require(
      late == 0 || all + late < room,
      "{} latents that are made anew and arrive {} tokens late need a text of {} tokens or more; "
      "the base's block_size is {}",
      all, late, all + late + 1, room);
}

int64_t ArrivingLatents::block_size(const LanguageModel& model) const {
  return none() ? model.block_size() : suppliers_[0]->model().base().block_size();
}

bool ArrivingLatents::begin(const SequenceState& read, const Variable& hidden,
                            const Tensor& tokens) {
  for (const auto& supplier : suppliers_) supplier->begin(read, hidden, tokens);
  waiting_ = suppliers_;
  const int64_t kept = std::exchange(rows_, 0);
  return collect(0) < kept;
}

int64_t ArrivingLatents::collect(int64_t written) {
  int64_t rows = 0;
  for (const Collected& c : collected_) rows += c.from->rows();
  std::erase_if(waiting_, [&](const std::shared_ptr<LatentSupplier>& supplier) {
    Variable latents = supplier->due(written);
    if (!latents) return false;
    rows += supplier->rows();
    collected_.push_back({supplier, std::move(latents)});
    return true;
  });
  return rows;
}

Variable ArrivingLatents::insert(int64_t written, SequenceState& state, const Tensor& last) {
  // Those that write into the cache go before the text's last token, which must be its last row.
  std::stable_partition(collected_.begin(), collected_.end(),
                        [](const Collected& c) { return c.from->model().source().writes_cache(); });
  Variable hidden;
  for (const Collected& c : collected_) {
    hidden = c.from->model().insert(state, last, c.latents);
    c.from->note_arrival(written);
    rows_ += c.from->rows();
  }
  collected_.clear();
  return hidden;
}

Variable ArrivingLatents::renew(TextWithoutLatents& text, const Tensor& more, const Tensor& late,
                                SequenceState& state) {
  AugmentedModel& model = suppliers_[0]->model();
  text.read(model, more);
  rows_ = renewed_rows();
  return text.continued(model, late, text.latents(model), state);
}

}  // namespace reverie
