#include "trainers/evaluation/written_figures.h"

#include <algorithm>
#include <functional>
#include <nlohmann/json.hpp>
#include <numeric>

#include "autograd/ops/shape.h"
#include "core/error.h"
#include "core/signals.h"
#include "datasets/sampler.h"
#include "trainers/evaluation/evaluate.h"
#include "trainers/probes/forward_audit.h"
#include "trainers/probes/movement.h"
#include "trainers/probes/rounding.h"

namespace reverie {
namespace {

using Words = std::vector<int32_t>;

// What is written, cut into pieces: behind each full stop and at marks, or word by word.
std::vector<Words> pieces_of(std::span<const int32_t> written, const ExampleLayout& marks,
                             std::optional<int32_t> fact_end) {
  std::vector<Words> pieces;
  Words piece;
  const auto close = [&] {
    if (!piece.empty()) pieces.push_back(std::move(piece));
    piece.clear();
  };
  for (const int32_t token : written) {
    const bool mark = token >= marks.first_mark;
    if (!mark) piece.push_back(token);
    if (mark || !fact_end || token == *fact_end) close();
  }
  close();
  return pieces;
}

// Records that are measured together.
struct Chunk {
  Batch batch;
  Tensor words;       // the batch's targets without marks
  int64_t point = 0;  // the first end_think of any record
};

// Where a memory comes from: for a chunk, and for one of its records by itself, of which `prefix` i32
// [1, ..] is known.
struct MemorySource {
  std::function<Variable()> of_chunk;
  std::function<Variable(int64_t row, const Tensor& prefix)> of_record;
};

Tensor record_of(const Chunk& chunk, int64_t row) {
  return chunk.batch.tokens.slice(0, row, row + 1).contiguous();
}

class Measuring {
 public:
  Measuring(ExplainedModel& model, const ExampleLayout& layout, std::optional<int32_t> fact_end)
      : model_(model), layout_(layout), fact_end_(fact_end) {}

  // Returns the chunk's memory.
  Variable add(const Chunk& chunk, const MemorySource& source, WrittenFigures& out,
               ForwardAudit* audit) const {
    const int64_t rows = chunk.batch.tokens.size(0), time = chunk.batch.tokens.size(1);
    Variable memory;
    const auto of_all = [&] {
      memory = source.of_chunk();
      return model_.hidden_with(chunk.batch.tokens, memory);
    };
    const Variable all =
        audit ? audit->one_by_one(model_, audited_texts(chunk, source, out.memory, of_all))
              : of_all();
    const Variable hidden = slice(all, 1, chunk.point, time);
    const Tensor targets = chunk.words.slice(1, chunk.point, time).contiguous();
    const auto losses = row_losses(model_, hidden, targets);
    const std::vector<double> logits = model_.logits_of(hidden).tensor().to_vector();
    const int64_t vocabulary = model_.vocabulary_size(), length = time - chunk.point;
    for (int64_t r = 0; r < rows; ++r) {
      double sum = 0;
      for (int64_t t = 0; t < length; ++t) {
        const int64_t i = r * length + t;
        const int32_t target = targets.data<int32_t>()[i];
        if (target == kIgnoredTarget) continue;
        sum += losses[size_t(i)];
        const auto row = logits.begin() + i * vocabulary;
        out.right += std::max_element(row, row + vocabulary) - row == target;
      }
      out.losses.push_back(sum);
    }
    const auto written = model_.write(memory, length);
    for (int64_t r = 0; r < rows; ++r) {
      const auto said = pieces_of(written[size_t(r)], layout_, fact_end_),
                 wanted = wanted_of(chunk, r);
      for (size_t i = 0; i < std::min(said.size(), wanted.size()); ++i)
        out.exact += said[i] == wanted[i];
      out.whole += said == wanted;
    }
    return memory;
  }
  // What the record should be written as.
  std::vector<Words> wanted_of(const Chunk& chunk, int64_t row) const {
    const int64_t time = chunk.batch.targets.size(1);
    Words all;
    for (int64_t t = 0; t < time; ++t)
      if (const int32_t target = chunk.batch.targets.data<int32_t>()[row * time + t];
          target != kIgnoredTarget)
        all.push_back(target);
    return pieces_of(all, layout_, fact_end_);
  }

 private:
  // A copy reads a record by itself, up to a word, for its memory and then for its words.
  ForwardAudit::OneByOne audited_texts(const Chunk& chunk, const MemorySource& source,
                                       const std::string& memory,
                                       const std::function<Variable()>& all) const {
    ForwardAudit::OneByOne texts;
    texts.probe = fmt::format(
        "decoder, {} memory: the measurement's own forward against a copy that saw a prefix of one "
        "record",
        memory);
    texts.time = chunk.batch.tokens.size(1);
    for (int64_t r = 0; r < chunk.batch.tokens.size(0); ++r) {
      const Tensor record = record_of(chunk, r);
      texts.first.push_back(
          ExplainedModel::point_of(model_.marks(), {record.data<int32_t>(), size_t(texts.time)}));
    }
    texts.rounding = rounding_of(model_, texts.time);
    if (model_.options().reads != "nothing") {
      // Rounding of the base adds up from window to window.
      LanguageModel& base = model_.base();
      const int64_t window = std::min(texts.time, base.block_size()),
                    windows = (texts.time + window - 1) / window;
      const Rounding of_base = rounding_of(base, window);
      texts.rounding.other_shape += double(windows) * of_base.other_shape;
      texts.rounding.text +=
          fmt::format(", and {} windows of the base's {}", windows, of_base.text);
    }
    texts.alone = [this, &chunk, &source](int64_t row, int64_t length) {
      const Tensor prefix = record_of(chunk, row).slice(1, 0, length).contiguous();
      return model_.hidden_with(prefix, source.of_record(row, prefix));
    };
    texts.all = all;
    return texts;
  }

  ExplainedModel& model_;
  ExampleLayout layout_;
  std::optional<int32_t> fact_end_;
};

Chunk chunk_of(Batch batch, const ExampleLayout& layout) {
  Chunk chunk{std::move(batch), {}, 0};
  chunk.words = chunk.batch.targets.clone();
  const int64_t time = chunk.words.size(1);
  chunk.point = time;
  auto* target = chunk.words.mutable_data<int32_t>();
  for (int64_t i = 0; i < chunk.words.numel(); ++i) {
    if (target[i] != kIgnoredTarget) chunk.point = std::min(chunk.point, i % time);
    if (target[i] >= layout.first_mark) target[i] = kIgnoredTarget;
  }
  return chunk;
}

}  // namespace

WrittenMeasurement measure_written(ExplainedModel& model, const Dataset& data, int64_t records,
                                   int64_t batch_size, const EvaluationProgress& progress,
                                   ForwardAudit* audit) {
  require(data.examples.has_value(),
          "{} holds no records of what was read and is to be written: wanted $.data.examples",
          data.name());
  const EvaluationMode mode(model);
  const auto windows =
      EvaluationWindows::of_examples(data.validation, *data.examples, batch_size, records);
  require(windows.window_count() >= 2, "{} has {} records to measure, wanted 2 or more",
          data.validation.path(), windows.window_count());
  const Json described = data.provenance.value("examples", Json::object());
  const auto fact_end = described.value("form", "") != "recount" && described.contains("fact_end")
                            ? std::optional(described["fact_end"].get<int32_t>())
                            : std::nullopt;
  const Measuring measuring(model, *data.examples, fact_end);
  const int64_t batches = windows.batch_count();
  WrittenMeasurement out;
  out.facts = fact_end.has_value();
  out.memories.push_back({"own", {}, 0, 0, 0});
  if (model.options().reads != "nothing") {
    out.memories.push_back({"swapped", {}, 0, 0, 0});
    out.memories.push_back({"wiped", {}, 0, 0, 0});
  }
  std::vector<Chunk> chunks;
  std::vector<Variable> memories;  // of each record
  const int64_t rounds = out.memories.size() > 1 ? 2 * batches : batches;
  const auto asked = [&](int64_t i) {
    return audit && audit->audits(i, batches) ? audit : nullptr;
  };
  for (int64_t i = 0; i < batches; ++i) {
    stop_if_requested();
    if (progress) progress(i, rounds);
    chunks.push_back(chunk_of(windows.batch(i), *data.examples));
    const Chunk& chunk = chunks.back();
    // Scored when it is read: a copy has not seen its texts before.
    const Variable memory = measuring.add(
        chunk,
        {[&] { return model.memory_of_records(chunk.batch.tokens); },
         [&](int64_t, const Tensor& prefix) { return model.memory_of_records(prefix); }},
        out.memories[0], asked(i));
    const int64_t rows = chunk.words.size(0), time = chunk.words.size(1);
    for (int64_t r = 0; r < rows; ++r) {
      memories.push_back(slice(memory, 0, r, r + 1));
      const int32_t* target = chunk.words.data<int32_t>() + r * time;
      out.words.push_back(time - std::count(target, target + time, kIgnoredTarget));
      out.pieces += int64_t(measuring.wanted_of(chunk, r).size());
    }
  }
  for (int64_t i = 0; i < batches && out.memories.size() > 1; ++i) {
    stop_if_requested();
    if (progress) progress(batches + i, rounds);
    const Chunk& chunk = chunks[size_t(i)];
    const int64_t rows = chunk.words.size(0), all = int64_t(memories.size());
    const auto other = [&](int64_t row) { return (i * batch_size + row + all / 2) % all; };
    const auto memory_of_others = [&] {
      std::vector<Variable> of;
      for (int64_t r = 0; r < rows; ++r) of.push_back(memories[size_t(other(r))]);
      return of.size() == 1 ? of[0] : concat(of, 0);
    };
    const auto read_other = [&](int64_t row, const Tensor&) {
      const Chunk& its = chunks[size_t(other(row) / batch_size)];
      return model.memory_of_records(record_of(its, other(row) % batch_size));
    };
    measuring.add(chunk, {memory_of_others, read_other}, out.memories[1], asked(i));
    measuring.add(chunk,
                  {[&] { return model.clean_memory(rows); },
                   [&](int64_t, const Tensor&) { return model.clean_memory(1); }},
                  out.memories[2], asked(i));
  }
  require(out.all_words() > 0, "the records of {} have no word to write", data.validation.path());
  for (size_t i = 0; i < out.memories.size(); ++i)
    require_finite(out.loss(i), "the loss of what a decoder writes");
  return out;
}

int64_t WrittenMeasurement::all_words() const {
  return std::accumulate(words.begin(), words.end(), int64_t(0));
}
double WrittenMeasurement::loss(size_t i) const {
  const auto& losses = memories.at(i).losses;
  return std::accumulate(losses.begin(), losses.end(), 0.0) / double(all_words());
}
const WrittenFigures* WrittenMeasurement::find(const std::string& memory) const {
  for (const WrittenFigures& f : memories)
    if (f.memory == memory) return &f;
  return nullptr;
}

LossChange change_of_losses(const WrittenMeasurement& measured, const std::vector<double>& carried,
                            const std::vector<double>& changed) {
  require(carried.size() == changed.size() && carried.size() == measured.words.size(),
          "losses of {} and {} records cannot be compared over {}", carried.size(), changed.size(),
          measured.words.size());
  std::vector<PairedSums> pairs;
  for (size_t i = 0; i < carried.size(); ++i)
    pairs.push_back({carried[i], changed[i], double(measured.words[i])});
  return loss_change(pairs);
}

Json WrittenFigures::json() const {
  return {
      {"memory", memory}, {"losses", losses}, {"right", right}, {"exact", exact}, {"whole", whole}};
}
Json WrittenMeasurement::json() const {
  Json out = {{"words", words}, {"pieces", pieces}, {"facts", facts}, {"memories", Json::array()}};
  for (const WrittenFigures& f : memories) out["memories"].push_back(f.json());
  return out;
}
WrittenMeasurement WrittenMeasurement::from_json(const Json& json) {
  try {
    WrittenMeasurement out;
    out.words = json.at("words").get<std::vector<int64_t>>();
    out.pieces = json.at("pieces");
    out.facts = json.at("facts");
    for (const Json& f : json.at("memories"))
      out.memories.push_back({f.at("memory"), f.at("losses").get<std::vector<double>>(),
                              f.at("right"), f.at("exact"), f.at("whole")});
    if (out.memories.empty()) throw DataError("a measurement of what was written has no memory");
    return out;
  } catch (const Json::exception& e) {
    throw DataError(fmt::format("not a complete measurement of what was written: {}", e.what()));
  }
}

}  // namespace reverie
