#include "trainers/evaluation/explained_canary.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/random.h"
#include "trainers/probes/movement.h"
#include "trainers/probes/probing_mode.h"
#include "trainers/probes/rounding.h"

namespace reverie {
namespace {

// Every token before a record's point becomes another one; marks stay, so that the point does.
Tensor with_other_texts(const ExplainedModel& model, const Tensor& records, const Tensor& donors) {
  const ExampleLayout marks = model.marks();
  Tensor other = records.to(Device{}).clone();
  const Tensor given = donors.to(Device{}).contiguous();
  const int64_t time = other.size(1), others = given.size(0), known = std::min(time, given.size(1));
  auto* token = other.mutable_data<int32_t>();
  for (int64_t row = 0; row < other.size(0); ++row, token += time) {
    const int64_t point = ExplainedModel::point_of(marks, {token, size_t(time)});
    const int32_t* donor = given.data<int32_t>() + row % others * given.size(1);
    for (int64_t t = 0; t < point; ++t) {
      if (token[t] >= marks.first_mark) continue;
      const int32_t next = (token[t] + 1) % marks.first_mark;
      const bool fits = t < known && donor[t] < marks.first_mark && donor[t] != token[t];
      token[t] = fits ? donor[t] : next;
    }
  }
  return other;
}

}  // namespace

Verdict ask_memory_alone(ExplainedModel& model, const Tensor& records, const Tensor& donors,
                         const Asking& asking) {
  const ProbingMode mode(model, asking.train, asking.precision);
  const int64_t rows = records.size(0), time = records.size(1);
  const Rounding rounding = rounding_of(model, time);
  const std::string how =
      fmt::format("{} mode, {} records of {} tokens, {}{}", asking.train ? "train" : "eval", rows,
                  time, rounding.text, asking.precision == MatmulPrecision::bf16 ? ", bf16" : "");
  const auto restart = [&] { default_generator() = Generator(uint64_t(asking.turn) + 1); };
  restart();
  const Variable memory = model.memory_of_records(records);
  const auto written = [&](const Tensor& tokens) {
    restart();
    return model.hidden_with(tokens, memory).tensor();
  };
  const Tensor base = written(records);
  const std::string site = asking.train ? "train mode" : "eval mode";
  require_finite(base, site);
  std::vector<ComparedRows> all, writing;
  const Tensor host = records.to(Device{}).contiguous();
  for (int64_t r = 0; r < rows; ++r) {
    const int64_t point =
        ExplainedModel::point_of(model.marks(), {host.data<int32_t>() + r * time, size_t(time)});
    all.push_back({r, 0, time, r, 0, ""});
    if (point < time)
      writing.push_back(
          {r, point, time, r, point, fmt::format("other text before token {}", point)});
  }
  HiddenMovement alone(model), same(model);
  alone.compare(base, written(with_other_texts(model, records, donors)), writing, site);
  restart();
  same.compare(base, model.hidden(records, nullptr).tensor(), all, site);
  Verdict verdict;
  verdict.add(alone.movement(
      fmt::format("decoder: other text before the point of {} records, the memory held fixed, {}",
                  writing.size(), how),
      rounding.same_shape, asking.step));
  verdict.add(same.movement("decoder: the memory given, against the memory read, " + how,
                            rounding.same_shape, asking.step));
  return verdict;
}

}  // namespace reverie
