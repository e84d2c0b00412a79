#include "trainers/tables/memories/memory_measurement.h"

#include <algorithm>
#include <chrono>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "datasets/passages.h"
#include "datasets/sampler.h"
#include "trainers/evaluation/carried_losses.h"
#include "trainers/evaluation/evaluate.h"
#include "trainers/probes/forward_audit.h"

namespace reverie {
namespace {

constexpr int kTimedForwards = 10;

void measure_answers(LanguageModel& model, const Dataset& data, const MemoryMeasureOptions& o,
                     int64_t step, MemoryMeasurement& out) {
  ForwardAudit audit = ForwardAudit::once(step);
  const auto count = [&](CarriedState state) {
    return task_accuracy(model, data.test, data.test_answers, *data.task, o.documents, o.batch_size,
                         state, state == CarriedState::as_model ? &audit : nullptr);
  };
  for (const DistanceAccuracy& carried : count(CarriedState::as_model))
    out.answers.push_back({carried, std::nullopt, std::nullopt});
  out.verdict = audit.verdict();
  if (!model.carries_memory()) return;
  const auto wiped = count(CarriedState::reset), swapped = count(CarriedState::swapped);
  for (size_t i = 0; i < out.answers.size(); ++i) {
    out.answers[i].wiped = wiped[i];
    out.answers[i].swapped = swapped[i];
  }
}

void measure_text(LanguageModel& model, const Dataset& data, const MemoryMeasureOptions& o,
                  int64_t step, MemoryMeasurement& out) {
  const ConsecutiveWindows windows(data.validation, data.documents, o.batch_size,
                                   model.block_size(), o.windows, data.validation_rule());
  std::vector<OtherMemory> others;
  if (model.carries_memory()) others = {reset_memory(), swapped_memory()};
  ForwardAudit audit = ForwardAudit::once(step);
  const CarriedLosses read =
      read_carried(model, windows, others, single_communicator(), {}, &audit);
  out.verdict = audit.verdict();
  require(read.predictions > 0,
          "none of the {} windows of the validation text holds a target: wanted more windows, or a "
          "text whose every token counts",
          read.windows);
  MemoryMeasurement::Text text;
  text.carried = read.loss / std::log(2.0);
  text.predictions = read.predictions;
  // Every text's first window is the same in all.
  const auto with = [&](const CarriedLosses::Other& other) {
    const PairedSums later = other.all();
    return (read.loss + (later.changed - later.carried) / double(read.predictions)) / std::log(2.0);
  };
  if (!others.empty()) {
    text.wiped = with(read.others[0]);
    text.swapped = with(read.others[1]);
  }
  out.text = text;
}

void measure_costs(LanguageModel& model, const TokenFile& tokens, int64_t batch_size,
                   MemoryMeasurement& out) {
  const EvaluationMode mode(model);
  const int64_t block = model.block_size(),
                rows = std::min(batch_size, (tokens.count() - 1) / block);
  require(rows >= 1, "{} has {} tokens, and a window of the model is {}", tokens.path(),
          tokens.count(), block);
  std::vector<int64_t> starts;
  for (int64_t r = 0; r < rows; ++r) starts.push_back(r * block);
  const Batch batch = read_windows(tokens, starts, block);
  SequenceState state;
  double fastest = std::numeric_limits<double>::infinity();
  for (int i = 0; i <= kTimedForwards; ++i) {
    const auto begin = std::chrono::steady_clock::now();
    model.logits(batch.tokens, model.carries_memory() ? &state : nullptr);
    const std::chrono::duration<double> taken = std::chrono::steady_clock::now() - begin;
    if (i > 0) fastest = std::min(fastest, taken.count());  // the first one warms up
  }
  out.milliseconds_per_token = 1000 * fastest / double(rows * block);
  out.flops_per_token = model.forward_flops_per_token(block);
  for (const auto& [name, value] : state.memory.values)
    out.state_bytes += int64_t(value.tensor().bytes()) / rows;
}

DistanceAccuracy accuracy_of(const Json& json) {
  return {json.at("distance"), json.at("right"), json.at("of"), json.at("chance")};
}
template <class Figure>
Json json_or_null(const std::optional<Figure>& figure) {
  if constexpr (std::is_same_v<Figure, double>)
    return figure ? Json(*figure) : Json();
  else
    return figure ? figure->json() : Json();
}

}  // namespace

void MemoryMeasureOptions::fields(Fields& f) {
  f.integer("documents", documents, kNonNegative,
            "documents of a generated task's test split, evenly spaced; 0: all");
  f.integer("windows", windows, kNonNegative,
            "windows of a validation text, about so many; 0: the whole text");
  f.integer("batch_size", batch_size, {2, 1 << 20},
            "texts that are read side by side; each is swapped with the next");
}

MemoryMeasurement measure_memory(LanguageModel& model, const Dataset& data,
                                 const MemoryMeasureOptions& options, int64_t step) {
  MemoryMeasurement out;
  if (data.task)
    measure_answers(model, data, options, step, out);
  else
    measure_text(model, data, options, step, out);
  measure_costs(model, data.validation, options.batch_size, out);
  return out;
}

Json MemoryMeasurement::json() const {
  Json out = {{"flops_per_token", flops_per_token},
              {"milliseconds_per_token", milliseconds_per_token},
              {"state_bytes", state_bytes},
              {"verdict", verdict.json()}};
  for (const Answers& a : answers)
    out["answers"].push_back({{"carried", a.carried.json()},
                              {"wiped", json_or_null(a.wiped)},
                              {"swapped", json_or_null(a.swapped)}});
  if (text)
    out["text"] = {{"carried", text->carried},
                   {"wiped", json_or_null(text->wiped)},
                   {"swapped", json_or_null(text->swapped)},
                   {"predictions", text->predictions}};
  return out;
}

MemoryMeasurement MemoryMeasurement::from_json(const Json& json) {
  try {
    MemoryMeasurement out;
    out.flops_per_token = json.at("flops_per_token");
    out.milliseconds_per_token = json.at("milliseconds_per_token");
    out.state_bytes = json.at("state_bytes");
    out.verdict = Verdict::of_file(json);
    for (const Json& a : json.value("answers", Json::array())) {
      Answers answers{accuracy_of(a.at("carried")), std::nullopt, std::nullopt};
      if (!a.at("wiped").is_null()) answers.wiped = accuracy_of(a.at("wiped"));
      if (!a.at("swapped").is_null()) answers.swapped = accuracy_of(a.at("swapped"));
      out.answers.push_back(answers);
    }
    if (json.contains("text")) {
      const Json& t = json.at("text");
      Text text{t.at("carried"), std::nullopt, std::nullopt, t.at("predictions")};
      if (!t.at("wiped").is_null()) text.wiped = t.at("wiped").get<double>();
      if (!t.at("swapped").is_null()) text.swapped = t.at("swapped").get<double>();
      out.text = text;
    }
    return out;
  } catch (const Json::exception& e) {
    throw DataError(fmt::format("not a complete measurement of a memory: {}", e.what()));
  }
}

}  // namespace reverie
