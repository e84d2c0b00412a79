#include "trainers/probes/forward_audit.h"

#include <fmt/format.h>

#include <algorithm>
#include <atomic>
#include <numeric>

#include "core/forked_copy.h"
#include "trainers/probes/cut_sweep.h"
#include "trainers/probes/separate_group.h"

namespace reverie {
namespace {

// A copy that takes longer hangs: a plug-in waits there for a thread that only the original has.
constexpr double kMostSeconds = 120;
constexpr size_t kMostCuts = 4;
// Of a text that a copy reads alone: rounding adds up from window to window.
constexpr int64_t kMostWindows = 8;

// Rows of a batch that a copy computes.
constexpr int64_t kMostRows = 8;
// Texts that a copy reads one by one.
constexpr int64_t kMostAlone = 4;

void append(std::vector<double>& values, const Tensor& rows) {
  const std::vector<double> more = rows.to_vector();
  values.insert(values.end(), more.begin(), more.end());
}

// Whether one failed in this process: the next would cost as much time.
std::atomic<bool> copies_failed{false};

// Lengths of prefixes: at most kMostCuts, shorter than the text, and not longer than it together.
std::vector<int64_t> drawn_cuts(int64_t time, Generator& random) {
  std::vector<int64_t> cuts;
  for (int64_t left = time - 1; left > 0 && cuts.size() < kMostCuts; left -= cuts.back())
    cuts.push_back(1 + int64_t(random.below(uint64_t(left))));
  return cuts;
}

// The first row, and others at random, rising.
std::vector<int64_t> drawn_rows(int64_t rows, Generator& random) {
  std::vector<int64_t> all(static_cast<size_t>(rows));
  std::iota(all.begin(), all.end(), 0);
  if (rows <= kMostRows) return all;
  for (int64_t i = 1; i < kMostRows; ++i)
    std::swap(all[size_t(i)], all[size_t(i + int64_t(random.below(uint64_t(rows - i))))]);
  all.resize(size_t(kMostRows));
  std::sort(all.begin(), all.end());
  return all;
}

}  // namespace

ForwardAudit::ForwardAudit(int64_t step, int64_t turn, int ranks)
    : step_(step), turn_(turn), ranks_(ranks), random_(uint64_t(turn) + 1) {}

ForwardAudit ForwardAudit::once(int64_t step) {
  ForwardAudit audit(step, step);
  audit.between_ = kOnceBetween;
  return audit;
}

std::string ForwardAudit::no_copy_of(const LanguageModel& model) const {
  if (ranks_ > 1) return "a copy of one of several ranks would lack the others";
  if (model.head().tensor().device().kind != DeviceKind::cpu)
    return "a copy of the process cannot use a GPU";
  return copies_failed ? "a copy of the process failed" : "";
}

std::vector<double> ForwardAudit::values_alone(const LanguageModel& model, std::string& probe,
                                               size_t most,
                                               const std::function<std::vector<double>()>& alone) {
  if (no_copy_of(model).empty()) {
    if (auto copied = in_forked_copy(most, kMostSeconds, alone); copied && copied->size() == most)
      return *copied;
    copies_failed = true;
  }
  verdict_.add_not_probed(fmt::format("{}: {}", probe, no_copy_of(model)));
  const auto in_copy = probe.find("a copy that");
  if (in_copy != std::string::npos) probe.replace(in_copy, 11, "forwards of this process that");
  return alone();
}

bool ForwardAudit::audits(int64_t i, int64_t batches) const {
  if (i == 0 || i + 1 == batches) return true;
  if (batches - 2 <= between_) return true;
  // One of each of so many stretches between them.
  const int64_t stretch = (i - 1) * between_ / (batches - 2);
  const auto begin = [&](int64_t s) { return 1 + (s * (batches - 2) + between_ - 1) / between_; };
  const int64_t first = begin(stretch), length = begin(stretch + 1) - first;
  Generator random(uint64_t(turn_) + 2 + uint64_t(stretch) * 0x9e3779b97f4a7c15);
  return i == first + int64_t(random.below(uint64_t(length)));
}

Variable ForwardAudit::audited(LanguageModel& model, std::string probe, const std::string& site,
                               const Rounding& rounding, const std::vector<ComparedRows>& compared,
                               int64_t length, const std::function<std::vector<double>()>& alone,
                               const std::function<Variable()>& forward) {
  if (compared.empty()) return forward();
  const int64_t features = model.head().tensor().size(1), pieces = int64_t(compared.size());
  const auto copied = values_alone(model, probe, size_t(pieces * length * features), alone);
  const Variable whole = forward();
  HiddenMovement found(model);
  found.compare(whole.tensor(), Tensor::from<double>({pieces, length, features}, copied), compared,
                site);
  verdict_.add(found.movement(probe + ", " + rounding.text, rounding.other_shape, step_));
  return whole;
}

Variable ForwardAudit::hidden(LanguageModel& model, const Tensor& tokens, SequenceState* state) {
  const int64_t rows = tokens.size(0), time = tokens.size(1);
  const std::vector<int64_t> cuts = drawn_cuts(time, random_), chosen = drawn_rows(rows, random_);
  // Keys in a cache are those of all rows.
  const bool fewer = int64_t(chosen.size()) < rows && (!state || state->layers.empty());
  std::vector<int64_t> of_copy = chosen;
  if (!fewer) {
    of_copy.resize(size_t(rows));
    std::iota(of_copy.begin(), of_copy.end(), 0);
  }
  std::vector<ComparedRows> compared;
  for (const int64_t cut : cuts)
    for (const int64_t r : of_copy)
      compared.push_back({r, cut - 1, cut, int64_t(compared.size()), 0,
                          fmt::format("the copy saw {} tokens", cut)});
  const auto alone = [&] {
    std::vector<double> values;
    const Tensor texts = fewer ? chosen_rows(tokens, of_copy) : tokens;
    for (const int64_t cut : cuts) {
      SequenceState before = state ? *state : SequenceState();
      if (fewer && state) before.memory = state->memory.rows(of_copy);
      const Tensor states =
          model.hidden(texts.slice(1, 0, cut).contiguous(), state ? &before : nullptr).tensor();
      append(values, states.slice(1, cut - 1, cut).to(DType::f64).contiguous());
    }
    return values;
  };
  return audited(model,
                 fmt::format("the evaluation's own forward{} against a copy that saw a prefix",
                             !state             ? ""
                             : state->use_cache ? ", keys cached,"
                                                : ", memory carried,"),
                 fmt::format("{} x {} tokens", rows, time), rounding_of(model, tokens), compared, 1,
                 alone, [&] { return model.hidden(tokens, state); });
}

ForwardAudit::Reading::Reading(ForwardAudit& audit, LanguageModel& model,
                               const ConsecutiveWindows& windows, int64_t group)
    : audit_(audit), model_(model) {
  const int64_t count = windows.windows_in(group),
                rows =
                    std::max<int64_t>(windows.rows_at(group, std::min<int64_t>(1, count - 1)), 1);
  row_ = int64_t(audit.random_.below(uint64_t(rows)));
  for (int64_t w = 0; w < std::min(count, kMostWindows) && row_ < windows.rows_at(group, w); ++w) {
    const Tensor tokens = windows.batch(group, w).tokens.slice(0, row_, row_ + 1).contiguous();
    windows_.push_back({tokens, 1 + int64_t(audit.random_.below(uint64_t(tokens.size(1)))), {}});
  }
  if (count > kMostWindows) later_.push_back(count - 1);
  if (count - 1 > kMostWindows)
    later_.push_back(kMostWindows +
                     int64_t(audit.random_.below(uint64_t(count - 1 - kMostWindows))));
  read_alone();
}

void ForwardAudit::Reading::read_alone() {
  probe_ = "texts read on, memory carried, against a copy that read one alone";
  const auto features = size_t(model_.head().tensor().size(1));
  const auto copied = audit_.values_alone(model_, probe_, windows_.size() * features, [&] {
    std::vector<double> values;
    SequenceState state;
    for (const Window& w : windows_) {
      SequenceState before = state;
      const Tensor states =
          model_.hidden(w.tokens.slice(1, 0, w.cut).contiguous(), &before).tensor();
      append(values, states.slice(1, w.cut - 1, w.cut).to(DType::f64).contiguous());
      model_.hidden(w.tokens, &state);
    }
    return values;
  });
  for (size_t i = 0; i < windows_.size(); ++i)
    windows_[i].alone.assign(copied.begin() + std::ptrdiff_t(i * features),
                             copied.begin() + std::ptrdiff_t((i + 1) * features));
}

Variable ForwardAudit::Reading::hidden(const Tensor& tokens, SequenceState& state, int64_t window) {
  if (std::find(later_.begin(), later_.end(), window) != later_.end())
    return audit_.hidden(model_, tokens, &state);
  const Variable whole = model_.hidden(tokens, &state);
  if (window >= int64_t(windows_.size())) return whole;
  const Window& w = windows_[size_t(window)];
  HiddenMovement found(model_);
  found.compare(whole.tensor(), Tensor::from<double>({1, 1, int64_t(w.alone.size())}, w.alone),
                {{row_, w.cut - 1, w.cut, 0, 0,
                  fmt::format("window {}, of which the copy saw {} tokens", window + 1, w.cut)}},
                fmt::format("{} x {} tokens", tokens.size(0), tokens.size(1)));
  const Rounding rounding = rounding_of(model_, tokens);
  audit_.verdict_.add(found.movement(probe_ + ", " + rounding.text,
                                     double(window + 1) * rounding.other_shape, audit_.step_));
  return whole;
}

Variable ForwardAudit::ahead_hidden(AugmentedModel& model, const Tensor& tokens,
                                    const InsertionPoints& points, const Tensor& others) {
  const int64_t texts = tokens.size(0), time = tokens.size(1), groups = points.limits.size(1),
                ahead = points.targets.size(1) / groups;
  std::vector<ComparedRows> compared;
  for (int64_t i = 0; i < std::min<int64_t>(2, texts * groups); ++i) {
    const int64_t text = int64_t(random_.below(uint64_t(texts))),
                  group = int64_t(random_.below(uint64_t(groups)));
    compared.push_back(
        {text, group * ahead, (group + 1) * ahead, i, 0, fmt::format("group {}", group)});
  }
  const auto alone = [&] {
    std::vector<double> values;
    for (const ComparedRows& c : compared)
      append(values, separate_group(model, tokens, points, c.row, c.begin / ahead, others)
                         .hidden.tensor()
                         .to(DType::f64)
                         .contiguous());
    return values;
  };
  const auto forward = [&] {
    const Variable latents = others ? model.latents_for(others, points.limits) : Variable();
    return model.ahead_hidden(tokens, points, latents);
  };
  return audited(
      model,
      fmt::format("latents{}: the evaluation's own forward against a copy that saw a prefix",
                  others ? " of other texts" : ""),
      fmt::format("{} texts of {} tokens, {} groups", texts, time, groups),
      rounding_of(model, time), compared, ahead, alone, forward);
}

Variable ForwardAudit::one_by_one(LanguageModel& model, const OneByOne& texts) {
  std::vector<int64_t> left;
  for (int64_t i = 0; i < int64_t(texts.first.size()); ++i)
    if (texts.first[size_t(i)] < texts.time) left.push_back(i);
  std::vector<ComparedRows> compared;
  while (!left.empty() && int64_t(compared.size()) < kMostAlone) {
    const auto chosen = left.begin() + std::ptrdiff_t(random_.below(left.size()));
    const int64_t text = *chosen, first = texts.first[size_t(text)];
    left.erase(chosen);
    // The whole of a text shows nothing of what a row reads behind itself.
    const int64_t length =
        first + 1 + int64_t(random_.below(uint64_t(std::max<int64_t>(1, texts.time - first - 1))));
    compared.push_back({text, length - 1, length, int64_t(compared.size()), 0,
                        fmt::format("the copy saw {} tokens", length)});
  }
  const auto alone = [&] {
    std::vector<double> values;
    for (const ComparedRows& c : compared)
      append(
          values,
          texts.alone(c.row, c.end).tensor().slice(1, c.begin, c.end).to(DType::f64).contiguous());
    return values;
  };
  return audited(model, texts.probe, fmt::format("{} x {} tokens", texts.first.size(), texts.time),
                 texts.rounding, compared, 1, alone, texts.all);
}

}  // namespace reverie
