#include "trainers/evaluation/carried_losses.h"

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/signals.h"
#include "trainers/probes/forward_audit.h"
#include "trainers/probes/movement.h"

namespace reverie {
namespace {

constexpr int64_t kMostPositions = 64;

std::vector<int64_t> first_rows(int64_t count) {
  std::vector<int64_t> rows;
  for (int64_t r = 0; r < count; ++r) rows.push_back(r);
  return rows;
}

// Sums as f64 values of one tensor, so that ranks exchange them at once: each value is written by
// one rank alone.
class Sums {
 public:
  Sums(const ConsecutiveWindows& windows, int64_t others)
      : windows_(windows),
        others_(others),
        positions_begin_(windows.text_count() * per_text()),
        values_(Tensor::zeros(
            {positions_begin_ + windows.group_count() * others * windows.block_size() * 3},
            DType::f64)) {}

  void add_carried(int64_t group, const std::vector<double>& losses, const Batch& batch) {
    each_target(batch, [&](int64_t row, int64_t, size_t i) {
      double* text = at(windows_.first_text(group) + row);
      text[0] += losses[i];
      text[1] += 1;
    });
  }
  void add_other(int64_t group, int64_t other, const std::vector<double>& carried,
                 const std::vector<double>& changed, const Batch& batch) {
    each_target(batch, [&](int64_t row, int64_t position, size_t i) {
      const int64_t block = windows_.block_size();
      double* text = at(windows_.first_text(group) + row) + 2 + 3 * other;
      double* place = values_.mutable_data<double>() + positions_begin_ +
                      3 * ((group * others_ + other) * block + position);
      for (double* sums : {text, place}) {
        sums[0] += carried[i];
        sums[1] += changed[i];
        sums[2] += 1;
      }
    });
  }
  void exchange(Communicator& communicator) { communicator.all_reduce(values_, Reduction::sum); }

  void write(CarriedLosses& out) const {
    const double* value = values_.data<double>();
    const auto paired = [&](int64_t from) {
      return PairedSums{value[from], value[from + 1], value[from + 2]};
    };
    double targets = 0;
    for (int64_t t = 0; t < windows_.text_count(); ++t) {
      out.loss += value[t * per_text()];
      targets += value[t * per_text() + 1];
    }
    require_finite(out.loss, fmt::format("the loss of {} texts with carried memory", out.texts));
    out.predictions = int64_t(targets);
    if (targets > 0) out.loss /= targets;
    for (int64_t o = 0; o < others_; ++o) {
      CarriedLosses::Other& other = out.others[size_t(o)];
      for (int64_t t = 0; t < windows_.text_count(); ++t)
        other.by_text.push_back(paired(t * per_text() + 2 + 3 * o));
      other.by_position.resize(size_t(windows_.block_size()));
      for (int64_t g = 0; g < windows_.group_count(); ++g)
        for (int64_t p = 0; p < windows_.block_size(); ++p)
          other.by_position[size_t(p)].add(
              paired(positions_begin_ + 3 * ((g * others_ + o) * windows_.block_size() + p)));
      require_finite(other.all().changed, fmt::format("the loss of texts, {}", other.name));
    }
  }

 private:
  int64_t per_text() const { return 2 + 3 * others_; }
  double* at(int64_t text) { return values_.mutable_data<double>() + text * per_text(); }
  template <class F>
  static void each_target(const Batch& batch, F&& f) {
    const int64_t time = batch.targets.size(1);
    const auto* targets = batch.targets.data<int32_t>();
    for (int64_t i = 0; i < batch.targets.numel(); ++i)
      if (targets[i] != kIgnoredTarget) f(i / time, i % time, size_t(i));
  }

  const ConsecutiveWindows& windows_;
  int64_t others_, positions_begin_;
  Tensor values_;
};

std::vector<double> losses_of(LanguageModel& model, const Batch& batch, SequenceState& state) {
  return row_losses(model, model.hidden(batch.tokens, &state), batch.targets);
}

void read_group(LanguageModel& model, const ConsecutiveWindows& windows, int64_t group,
                const std::vector<OtherMemory>& others, ForwardAudit* audit, Sums& sums) {
  SequenceState state;
  MemoryState first;
  std::optional<ForwardAudit::Reading> reading;
  if (audit) reading.emplace(*audit, model, windows, group);
  for (int64_t w = 0; w < windows.windows_in(group) && !pending_signal(); ++w) {
    const Batch batch = windows.batch(group, w);
    const int64_t rows = batch.tokens.size(0);
    state.memory = state.memory.rows(first_rows(rows));  // of those that go on
    first = first.rows(first_rows(rows));
    const MemoryState before = state.memory;
    const Variable hidden =
        reading ? reading->hidden(batch.tokens, state, w) : model.hidden(batch.tokens, &state);
    state.memory.detach();
    const std::vector<double> carried = row_losses(model, hidden, batch.targets);
    sums.add_carried(group, carried, batch);
    if (w == 0) {
      first = state.memory;
      continue;
    }
    for (size_t o = 0; o < others.size(); ++o) {
      const auto begin = others[o].begin(before, first, w);
      if (!begin) continue;
      SequenceState other;
      other.memory = *begin;
      sums.add_other(group, int64_t(o), carried, losses_of(model, batch, other), batch);
    }
  }
}

// The 0.975 quantile of Student's t: a table, then its expansion in 1 / degrees.
double student_975(int64_t degrees) {
  constexpr double small[] = {12.706, 4.303, 3.182, 2.776, 2.571,
                              2.447,  2.365, 2.306, 2.262, 2.228};
  if (degrees <= 10) return small[degrees - 1];
  const double z = 1.959964, n = double(degrees), z3 = z * z * z;
  return z + (z3 + z) / (4 * n) + (5 * z3 * z * z + 16 * z3 + 3 * z) / (96 * n * n);
}

std::string signed_text(double value) {
  return fmt::format("{:+.4f}", value);
}

}  // namespace

std::string LossChange::text() const {
  if (predictions == 0) return "not measured";
  std::string out = signed_text(mean);
  if (low) out += fmt::format(" [{}, {}]", signed_text(*low), signed_text(*high));
  return out + " nats";
}

Json LossChange::json() const {
  if (predictions == 0) return {};
  Json out = {{"change", mean}, {"texts", texts}, {"predictions", predictions}};
  out["low"] = low ? Json(*low) : Json();
  out["high"] = high ? Json(*high) : Json();
  return out;
}

LossChange loss_change(const std::vector<PairedSums>& texts) {
  std::vector<PairedSums> asked;
  PairedSums all;
  for (const PairedSums& t : texts)
    if (t.targets > 0) {
      asked.push_back(t);
      all.add(t);
    }
  LossChange change;
  change.texts = int64_t(asked.size());
  change.predictions = int64_t(all.targets);
  if (asked.empty()) return change;
  change.mean = all.change();
  if (asked.size() < 2) return change;
  const double count = double(asked.size());
  double squares = 0;
  for (const PairedSums& t : asked) {
    const double apart = t.changed - t.carried - change.mean * t.targets;
    squares += apart * apart;
  }
  const double error = std::sqrt(squares * count / (count - 1)) / all.targets,
               reach = student_975(int64_t(asked.size()) - 1) * error;
  change.low = change.mean - reach;
  change.high = change.mean + reach;
  return change;
}

OtherMemory reset_memory() {
  return {"reset at each window",
          [](const MemoryState&, const MemoryState&, int64_t) { return MemoryState(); }};
}

OtherMemory swapped_memory() {
  return {
      "swapped",
      [](const MemoryState& carried, const MemoryState&, int64_t) -> std::optional<MemoryState> {
        const int64_t rows = carried.values.empty() ? 0 : carried.values.begin()->second.size(0);
        if (rows < 2) return std::nullopt;
        std::vector<int64_t> next;
        for (int64_t r = 0; r < rows; ++r) next.push_back((r + 1) % rows);
        return carried.rows(next);
      }};
}

PairedSums CarriedLosses::Other::all() const {
  PairedSums sums;
  for (const PairedSums& text : by_text) sums.add(text);
  return sums;
}

CarriedLosses read_carried(LanguageModel& model, const ConsecutiveWindows& windows,
                           const std::vector<OtherMemory>& others, Communicator& communicator,
                           const EvaluationProgress& progress, ForwardAudit* audit) {
  const EvaluationMode mode(model);
  CarriedLosses out;
  out.texts = windows.text_count();
  out.windows = windows.window_count();
  out.documents = windows.documents();
  for (const OtherMemory& other : others) out.others.push_back({other.name, {}, {}});
  Sums sums(windows, int64_t(others.size()));
  const int64_t groups = windows.group_count(), ranks = communicator.size(),
                share = (groups - communicator.rank() + ranks - 1) / ranks;
  int64_t done = 0;
  for (int64_t g = communicator.rank(); g < groups && !pending_signal(); g += ranks, ++done) {
    if (progress) progress(done, share);
    const bool audited = audit && audit->audits(done, share);
    read_group(model, windows, g, others, audited ? audit : nullptr, sums);
  }
  require_uninterrupted(communicator);
  sums.exchange(communicator);
  sums.write(out);
  return out;
}

// ---- carried beside reset -----------------------------------------------------------------------

CarriedResult evaluate_carried(LanguageModel& model, const ConsecutiveWindows& windows,
                               Communicator& communicator, const EvaluationProgress& progress,
                               ForwardAudit* audit) {
  const CarriedLosses read =
      read_carried(model, windows, {reset_memory()}, communicator, progress, audit);
  const CarriedLosses::Other& reset = read.others.front();
  const PairedSums later = reset.all();
  CarriedResult out;
  out.loss = read.loss;
  if (read.predictions > 0)
    out.loss_reset = read.loss + (later.changed - later.carried) / double(read.predictions);
  out.change = reset.change();
  out.predictions = read.predictions;
  out.texts = read.texts;
  out.windows = read.windows;
  out.documents = read.documents;
  const auto positions = int64_t(reset.by_position.size()),
             ranges = std::min(positions, kMostPositions);
  for (int64_t i = 0; i < ranges; ++i) {
    const int64_t begin = i * positions / ranges, end = (i + 1) * positions / ranges;
    PairedSums sums;
    for (int64_t p = begin; p < end; ++p) sums.add(reset.by_position[size_t(p)]);
    if (sums.targets > 0)
      out.by_position.push_back(
          {begin + 1, end, sums.carried / sums.targets, sums.changed / sums.targets});
  }
  return out;
}

EvaluationResult evaluate_reset(LanguageModel& model, const ConsecutiveWindows& windows) {
  const EvaluationMode mode(model);
  EvaluationResult out;
  for (int64_t g = 0; g < windows.group_count(); ++g)
    for (int64_t w = 0; w < windows.windows_in(g); ++w) {
      stop_if_requested();
      const Batch batch = windows.batch(g, w);
      SequenceState clean;
      for (const double loss : losses_of(model, batch, clean)) out.loss += loss;
      out.targets += batch.target_count;
    }
  require(out.targets > 0, "none of {} windows holds a target", windows.window_count());
  require_finite(out.loss, fmt::format("the loss of {} texts, memory reset", windows.text_count()));
  out.loss /= double(out.targets);
  return out;
}

std::string CarriedResult::where() const {
  return fmt::format("{} {}, {} windows", texts, documents ? "documents" : "pieces of the text",
                     windows);
}

Json CarriedResult::json() const {
  Json positions = Json::array();
  for (const Positions& p : by_position)
    positions.push_back(
        {{"first", p.first}, {"last", p.last}, {"carried", p.carried}, {"reset", p.reset}});
  return {{"loss", loss},
          {"loss_reset", loss_reset},
          {"change_when_reset", change.json()},
          {"predictions", predictions},
          {"texts", texts},
          {"windows", windows},
          {"of", documents ? "documents" : "pieces of one text"},
          {"by_position", positions}};
}

}  // namespace reverie
