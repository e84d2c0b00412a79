#include "trainers/evaluation/canary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "autograd/ops/shape.h"
#include "core/error.h"
#include "core/random.h"
#include "core/signals.h"
#include "layers/thinking_model.h"
#include "trainers/probes/cut_sweep.h"
#include "trainers/probes/probing_mode.h"
#include "trainers/probes/rounding.h"

namespace reverie {
namespace {

class PrefixComparison {
 public:
  PrefixComparison(LanguageModel& model, int64_t length, int64_t step)
      : model_(model), rounding_(rounding_of(model, length)), found_(model), step_(step) {
    window_.allowed = 1;
  }

  // whole, prefix [B, T, C]: final hidden states of a batch by one forward and by T.
  void batch(const Batch& batch, const Tensor& whole, const Tensor& prefix) {
    const int64_t rows = batch.tokens.size(0), time = batch.tokens.size(1);
    if (const Rounding r = rounding_of(model_, batch.tokens); r.other_shape > rounding_.other_shape)
      rounding_ = r;
    std::vector<ComparedRows> all;
    for (int64_t r = 0; r < rows; ++r) all.push_back({r, 0, time, r, 0, ""});
    const std::string site = fmt::format("{} x {} tokens", rows, time);
    found_.compare(whole, prefix, all, site);
    const auto a = row_losses(model_, Variable(whole), batch.targets),
               b = row_losses(model_, Variable(prefix), batch.targets);
    for (int64_t r = 0; r < rows; ++r) {
      double difference = 0, largest = 0, targets = 0;
      for (int64_t t = 0; t < time; ++t) {
        const size_t i = size_t(r * time + t);
        if (batch.targets.data<int32_t>()[i] == kIgnoredTarget) continue;
        difference += b[i] - a[i];
        largest = std::max(largest, std::abs(b[i]));
        targets += 1;
        loss_ += a[i];
      }
      if (targets == 0) continue;
      targets_ += targets;
      largest_loss_ = std::max(largest_loss_, largest);
      const Movement m{window_name(), fmt::format("window {}, row {}, {}", windows_ + r, r, site),
                       std::abs(difference) / targets,
                       allowed_in_mean(rounding_.other_shape, largest, targets), step_};
      if (windows_ + r == 0 || m.graver_than(window_)) window_ = m;
    }
    windows_ += rows;
  }

  // `loss`: the mean of the model's own loss() over the same targets.
  Verdict verdict(std::optional<double> loss) const {
    Verdict v;
    if (windows_ == 0) return v;
    v.add(found_.movement(
        fmt::format("the text cut off behind each position, eval mode, {}", rounding_.text),
        rounding_.other_shape, step_));
    v.add(window_);
    if (loss && targets_ > 0)
      v.add({"loss() against the loss of its logits, eval mode",
             fmt::format("{} windows", windows_), std::abs(*loss - loss_ / targets_),
             2 * rounding_.other_shape * std::max(1.0, largest_loss_), step_});
    return v;
  }

 private:
  static std::string window_name() { return "each window's prefix-only loss, eval mode"; }

  LanguageModel& model_;
  Rounding rounding_;
  HiddenMovement found_;
  int64_t step_, windows_ = 0;
  Movement window_;
  double loss_ = 0, targets_ = 0, largest_loss_ = 0;
};

// Final hidden states [B, T, C], row t from a forward over rows 0..t alone, and the sum of losses.
double prefix_forwards(LanguageModel& model, const Batch& batch, Tensor& states) {
  double sum = 0;
  const int64_t time = batch.tokens.size(1);
  for (int64_t t = 1; t <= time && !pending_signal(); ++t) {
    const Variable hidden = model.hidden(batch.tokens.slice(1, 0, t).contiguous());
    const Variable last = slice(hidden, 1, t - 1, t);
    const Tensor targets = batch.targets.slice(1, t - 1, t).contiguous();
    sum += model.loss_of(last, targets, 1.0).tensor().item();
    if (t == 1)
      states = Tensor::empty({last.size(0), time, last.size(2)}, last.dtype(), last.device());
    Tensor place = states.slice(1, t - 1, t);
    place.copy_from(last.tensor());
  }
  return sum;
}

// Rows of a batch that short forms ask.
constexpr int64_t kFewRows = 4;

std::vector<int64_t> few_rows_of(int64_t rows, int64_t turn) {
  std::vector<int64_t> few;
  if (rows <= kFewRows) {
    for (int64_t r = 0; r < rows; ++r) few.push_back(r);
    return few;
  }
  const int64_t between = rows - 2, first = 1 + turn % between,
                second = 1 + (turn + between / 2) % between;
  few = {0, std::min(first, second), std::max(first, second), rows - 1};
  return few;
}

std::vector<ComparedRows> whole_rows(int64_t rows, int64_t length) {
  std::vector<ComparedRows> all;
  for (int64_t r = 0; r < rows; ++r) all.push_back({r, 0, length, r, 0, ""});
  return all;
}

// Forwards of a live model that draw the same dropout every time, and what they are called.
class LiveForwards {
 public:
  LiveForwards(LanguageModel& model, const SequenceState* carried, const Asking& asking,
               const Tensor& tokens)
      : model_(model),
        carried_(carried),
        asking_(asking),
        rounding_(rounding_of(model, tokens)),
        mode_(model, asking.train, asking.precision) {}

  // `rows`: which of a batch's these are; they draw what they would in it.
  Tensor hidden(const Tensor& tokens, SequenceState* state = nullptr, const BatchRows& rows = {}) {
    default_generator() = Generator(uint64_t(asking_.turn) + 1, 0, rows);
    SequenceState own = carried_ && !state ? *carried_ : SequenceState();
    const Tensor out = model_.hidden(tokens, state ? state : carried_ ? &own : nullptr).tensor();
    draws_ = draws_ || default_generator().offset() != 0;
    return out;
  }
  // Whether a forward drew random numbers.
  bool draws() const { return draws_; }
  const Rounding& rounding() const { return rounding_; }
  std::string how(int64_t rows, int64_t length) const {
    return fmt::format("{} mode, {} x {} tokens, {}{}{}", asking_.train ? "train" : "eval", rows,
                       length, rounding_.text,
                       asking_.precision == MatmulPrecision::bf16 ? ", bf16" : "",
                       carried_ ? ", carried memory" : "");
  }
  std::string site() const { return asking_.train ? "train mode" : "eval mode"; }

 private:
  LanguageModel& model_;
  const SequenceState* carried_;
  Asking asking_;
  Rounding rounding_;
  ProbingMode mode_;
  bool draws_ = false;
};

// How a model reads texts that were changed behind their cuts. Thoughts decide the sizes of a
// model's passes, so that f32 sums are rounded otherwise, and bf16 makes steps of that: in bf16
// they stay where `tokens` has them. Forwards in f32 (scores of prefixes, probes of copies) move
// them.
class CutForwards {
 public:
  CutForwards(LanguageModel& model, LiveForwards& forwards, const Tensor& tokens,
              const Asking& asking)
      : forwards_(forwards), tokens_(tokens) {
    if (asking.precision == MatmulPrecision::bf16) thought_ = thought_token_of(model);
  }
  Tensor operator()(const Tensor& changed) const {
    return forwards_.hidden(thought_ ? thinking_where(tokens_, changed, *thought_) : changed);
  }
  std::string how() const { return thought_ ? ", thoughts in their places" : ""; }

 private:
  LiveForwards& forwards_;
  const Tensor& tokens_;
  std::optional<int32_t> thought_;
};

// The carried state of these rows; of a text that begins, there is none.
std::optional<SequenceState> state_of_rows(const SequenceState* carried,
                                           const std::vector<int64_t>& rows) {
  if (!carried) return std::nullopt;
  SequenceState some = *carried;
  some.memory = carried->memory.rows(rows);
  return some;
}

}  // namespace

Verdict ask_cuts(LanguageModel& model, const Tensor& tokens, const Tensor& donors,
                 const SequenceState* carried, const Asking& asking) {
  const int64_t rows = tokens.size(0), length = tokens.size(1),
                vocabulary = model.vocabulary_size();
  LiveForwards forwards(model, carried, asking, tokens);
  const auto hidden_of = [&](const Tensor& t) { return forwards.hidden(t); };
  const CutForwards behind_cuts(model, forwards, tokens, asking);
  const std::string site = forwards.site(), how = forwards.how(rows, length);
  Verdict verdict;
  const auto add = [&](const std::string& what, const HiddenMovement& found) {
    verdict.add(found.movement(what + ", " + how, forwards.rounding().same_shape, asking.step));
  };
  const Tensor base = hidden_of(tokens);
  require_finite(base, site);
  const CutPlan plan = plan_cuts(rows, length, asking.most_forwards, asking.turn);
  HiddenMovement cuts(model), again(model);
  sweep_cuts(behind_cuts, tokens, base, donors, plan, vocabulary, site, cuts);
  add(fmt::format("other text behind {} of {} cuts{}", cuts_in(plan, length), length - 1,
                  behind_cuts.how()),
      cuts);

  if (asking.again) {
    again.compare(base, hidden_of(tokens), whole_rows(rows, length), site);
    add("the same text again", again);
  }

  if (carried && rows > 1 && donors.size(0) == rows) {
    const auto after = [&](const Tensor& first) {
      SequenceState state = *carried;
      forwards.hidden(first, &state);
      return model.hidden(donors, &state).tensor();
    };
    const int64_t whole = asking.turn % rows;
    std::vector<int64_t> all_but_one(static_cast<size_t>(rows), 0);
    all_but_one[size_t(whole)] = length;
    HiddenMovement past(model);
    past.compare(after(tokens), after(with_other_suffixes(tokens, donors, all_but_one, vocabulary)),
                 {{whole, 0, length, whole, 0, "the other rows' past"}}, site);
    add("other rows' past", past);
  }
  return verdict;
}

Verdict ask_few_rows(LanguageModel& model, const Tensor& tokens, const Tensor& donors,
                     const SequenceState* carried, const Asking& asking) {
  const std::vector<int64_t> few = few_rows_of(tokens.size(0), asking.turn);
  const auto state = state_of_rows(carried, few);
  Asking fewer = asking;
  fewer.again = false;
  return ask_cuts(model, chosen_rows(tokens, few),
                  chosen_rows(donors, few_rows_of(donors.size(0), asking.turn)),
                  state ? &*state : nullptr, fewer);
}

Verdict ask_whole_batch(LanguageModel& model, const Tensor& tokens, const Tensor& donors,
                        const SequenceState* carried, const Asking& asking) {
  const int64_t rows = tokens.size(0), length = tokens.size(1);
  const std::vector<int64_t> few = few_rows_of(rows, asking.turn);
  Verdict verdict;
  if (int64_t(few.size()) == rows || length < 2) return verdict;
  LiveForwards forwards(model, carried, asking, tokens);
  const std::string site = forwards.site(), how = forwards.how(rows, length);
  // Two windows, the second from where the first ended, where memory is carried.
  const bool second = carried && donors.size(0) == rows && donors.size(1) == length;
  const auto read = [&](std::optional<int64_t> row) {
    const auto part = [&](const Tensor& t) {
      return row ? t.slice(0, *row, *row + 1).contiguous() : t;
    };
    const BatchRows place = row ? BatchRows{uint64_t(*row), 1, uint64_t(rows)} : BatchRows{};
    SequenceState state;
    if (carried) state = row ? *state_of_rows(carried, {*row}) : *carried;
    std::vector<Tensor> out;
    for (const Tensor& texts : second ? std::vector{tokens, donors} : std::vector{tokens})
      out.push_back(forwards.hidden(part(texts), carried ? &state : nullptr, place));
    return out;
  };
  const std::vector<Tensor> base = read(std::nullopt);
  require_finite(base[0], site);
  if (asking.precision != MatmulPrecision::bf16) {
    std::vector<HiddenMovement> moved(base.size(), HiddenMovement(model));
    for (const int64_t row : few) {
      const std::vector<Tensor> alone = read(row);
      for (size_t window = 0; window < base.size(); ++window)
        moved[window].compare(base[window], alone[window],
                              {{row, 0, length, 0, 0, "the row alone"}}, site);
    }
    for (size_t window = 0; window < base.size(); ++window)
      verdict.add(moved[window].movement(
          fmt::format("the whole batch against {} of its rows, each alone, {}{}", few.size(), how,
                      window > 0 ? ", the window behind" : ""),
          double(window + 1) * forwards.rounding().other_shape, asking.step));
    // A row that moved may have drawn other numbers than in the batch.
    if (!verdict.leaks() || !forwards.draws()) return verdict;
    verdict = {};
  }
  const CutPlan one{plan_cuts(rows, length, 1, asking.turn).front()};
  HiddenMovement cuts(model);
  const CutForwards behind_cuts(model, forwards, tokens, asking);
  sweep_cuts(behind_cuts, tokens, base[0], donors, one, model.vocabulary_size(), site, cuts);
  verdict.add(cuts.movement(fmt::format("the whole batch, other text behind {} of {} cuts{}, {}",
                                        cuts_in(one, length), length - 1, behind_cuts.how(), how),
                            forwards.rounding().same_shape, asking.step));
  if (second) verdict.add_not_probed("the whole batch, other rows' past, " + how);
  return verdict;
}

PrefixScores score_prefixes(LanguageModel& model, const EvaluationWindows& windows,
                            Communicator& communicator, int64_t step, bool own_loss) {
  PrefixScores scores;
  scores.same_windows = evaluate(model, windows, communicator);
  const EvaluationMode mode(model);
  PrefixComparison comparison(model, model.block_size(), step);
  double own = 0, targets = 0;
  const int64_t batches = windows.batch_count();
  Tensor sums = Tensor::zeros({batches, 2}, DType::f64);
  for (int64_t i = communicator.rank(); i < batches && !pending_signal();
       i += communicator.size()) {
    const Batch batch = windows.batch(i);
    Tensor prefix;
    const Tensor whole = model.hidden(batch.tokens).tensor();
    auto* at = sums.mutable_data<double>() + 2 * i;
    at[0] = prefix_forwards(model, batch, prefix);
    if (pending_signal()) break;  // that was half a batch
    at[1] = double(batch.target_count);
    comparison.batch(batch, whole, prefix);
    if (own_loss) continue;
    own += model.loss(batch.tokens, batch.targets, 1.0).tensor().item();
    targets += double(batch.target_count);
  }
  require_uninterrupted(communicator);
  communicator.all_reduce(sums, Reduction::sum);
  double total = 0, all_targets = 0;
  for (int64_t i = 0; i < batches; ++i) {
    total += sums.data<double>()[2 * i];
    all_targets += sums.data<double>()[2 * i + 1];
  }
  require(all_targets > 0,
          "the evaluation windows hold no target: the text is too short, or "
          "every token is masked");
  scores.prefix_only = {total / all_targets, int64_t(all_targets)};
  scores.verdict = comparison.verdict(targets > 0 ? std::optional(own / targets) : std::nullopt);
  return scores;
}

}  // namespace reverie
