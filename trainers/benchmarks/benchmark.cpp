#include "trainers/benchmarks/benchmark.h"

#include <fmt/format.h>

#include <algorithm>
#include <chrono>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "core/machine.h"
#include "core/plugin.h"
#include "core/signals.h"
#include "layers/kept_weights.h"
#include "trainers/benchmarks/continuation_scores.h"
#include "trainers/benchmarks/greedy_texts.h"
#include "trainers/benchmarks/results_file.h"
#include "trainers/evaluation/evaluate.h"
#include "trainers/text/activity.h"

namespace reverie {
namespace {

Json definition_json(const BenchmarkDefinition& definition) {
  BenchmarkDefinition copy = definition;
  Json json = write_config(copy);
  // Younger than many a result, which their defaults must not disown.
  for (const char* key : {"prompt", "target", "fetch"})
    if (json["few_shot"].value(key, "").empty()) json["few_shot"].erase(key);
  return json;
}

// Scores are of these beside the weights: other programs, plugins and options make others.
Json computation_of(const UsableModel& model) {
  const Variable& head = model.model->head();
  Json out = {{"config", hash_bytes(model.config.data(), model.config.size())},
              {"dtype", std::string(name_of(head.dtype()))},
              {"weights_bytes", kept_weights(*model.model).bytes},
              {"commit", build_commit()},
              {"plugins", plugin_hashes()}};
  if (head.device() != Device{}) out["device"] = std::string(name_of(head.device().kind));
  return out;
}

Json key_of(const UsableModel& model, const DefinitionFile& task, const BenchmarkItems& items,
            const BenchmarkOptions& options) {
  Json key = {{"format", 2},
              {"definition", definition_json(task.definition)},
              {"data", items.data_hash},
              {"shots", items.shots},
              {"items", items.items.size()},
              {"weights", model.model->weights_hash()},
              {"computation", computation_of(model)},
              {"tokenizer", model.text().hash()},
              {"latents", options.latents},
              {"batch_tokens", options.batch_tokens}};
  if (options.shuffled) key["shuffled"] = true;
  if (options.latents_every > 0) key["latents_every"] = options.latents_every;
  return key;
}

// One evaluation: the model as it is asked, and what was found so far.
class Evaluation {
 public:
  Evaluation(const UsableModel& model, const DefinitionFile& task, const BenchmarkItems& items,
             const BenchmarkOptions& options)
      : model_(model),
        task_(task),
        items_(items),
        mode_(*model.model),
        audit_(ForwardAudit::once(model.step)),
        reader_(*model.model, {options.latents, options.batch_tokens, &audit_, options.shuffled,
                               options.latents_every}),
        kept_(std::make_shared<ResultsFile>(options.results_folder,
                                            key_of(model, task, items, options))),
        results_(*kept_),
        activity_(fmt::format("task {}: items", task.definition.name)) {}

  BenchmarkResult run() {
    const auto began = std::chrono::steady_clock::now();
    BenchmarkResult out;
    for (size_t i = 0; i < items_.items.size(); ++i) out.before += complete(i);
    if (out.before > 0)
      log_info("going on: {} of {} items were scored before", out.before, items_.items.size());
    if (task_.definition.type == "generate")
      write_answers();
    else
      score();
    for (size_t i = 0; i < items_.items.size(); ++i) {
      out.results.push_back(results_.results().at(i));
      out.cut += out.results.back().value("cut", false);
    }
    out.measures = measures_of(task_, items_, out.results);
    out.verdict = model_.verdict;
    out.verdict.merge(results_.verdict());
    out.verdict.merge(audit_.verdict());
    out.seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - began).count();
    out.kept = kept_;
    return out;
  }

 private:
  ReadingOptions reading() const {
    return {model_.text(), model_.model->vocabulary_size(), reader_.room()};
  }
  bool complete(size_t item) const {
    const auto found = results_.results().find(item);
    if (found == results_.results().end()) return false;
    return task_.definition.second_prompt.empty() || found->second.contains("second_text");
  }
  void keep(size_t item, const Json& result) {
    results_.add(item, result);
    ++done_;
  }
  // After a batch: nothing of it is lost any more.
  void batch_done() {
    if (audit_.verdict().asked() || audit_.verdict().leaks()) results_.add(audit_.verdict());
    results_.flush();
    activity_.reach(done_, int64_t(items_.items.size()));
    stop_if_requested();
  }
  // Batches with an item for which `wanted`, and whether each is audited.
  template <class Wanted, class Do>
  void each_batch(const ReadingPlan& plan, Wanted&& wanted, Do&& body) {
    const int64_t count = int64_t(plan.batches.size());
    for (int64_t i = 0; i < count; ++i) {
      const ReadingBatch& batch = plan.batches[size_t(i)];
      if (std::none_of(batch.readings.begin(), batch.readings.end(), wanted)) continue;
      body(batch, audit_.audits(i, count));
      batch_done();
    }
  }

  void score() {
    const std::vector<Reading> readings = likelihood_readings(items_, reading());
    const ReadingPlan plan =
        plan_readings(readings, reader_.options().batch_tokens, reader_.shares());
    struct Found {
      std::vector<double> log_likelihoods;
      std::vector<bool> greedy;
      size_t left = 0;
      bool cut = false;
    };
    std::vector<Found> found;
    for (const BenchmarkItem& item : items_.items) {
      const size_t count = item.continuations.size();
      found.push_back({std::vector<double>(count), std::vector<bool>(count), count, false});
    }
    std::vector<bool> known(items_.items.size());
    for (size_t i = 0; i < known.size(); ++i) {
      known[i] = complete(i);
      done_ += known[i];
    }
    const auto wanted = [&](size_t r) { return !known[readings[r].continuations[0].item]; };
    each_batch(plan, wanted, [&](const ReadingBatch& batch, bool audited) {
      const auto scores = score_continuations(reader_, readings, plan, batch, audited);
      for (size_t b = 0; b < scores.size(); ++b) {
        const Reading& reading = readings[batch.readings[b]];
        for (size_t c = 0; c < scores[b].size(); ++c) {
          const Continuation& continuation = reading.continuations[c];
          Found& item = found[continuation.item];
          item.log_likelihoods[continuation.choice] = scores[b][c].log_likelihood;
          item.greedy[continuation.choice] = scores[b][c].greedy;
          item.cut = item.cut || reading.cut;
          if (--item.left == 0 && !known[continuation.item])
            keep(continuation.item, {{"log_likelihoods", item.log_likelihoods},
                                     {"greedy", item.greedy},
                                     {"cut", item.cut}});
        }
      }
    });
  }

  // One pass over prompts, of which item i's is prompts[i].
  template <class Known, class Keep>
  void write(const std::vector<Reading>& prompts, int64_t max_tokens, Known&& known, Keep&& keep) {
    const ReadingPlan plan =
        plan_readings(prompts, reader_.options().batch_tokens, reader_.shares());
    const WritingOptions writing{model_.text(), max_tokens, task_.definition.stop, model_.ends};
    each_batch(
        plan, [&](size_t i) { return !known(i); },
        [&](const ReadingBatch& batch, bool audited) {
          const auto texts = write_texts(reader_, prompts, plan, batch, writing, audited);
          for (size_t b = 0; b < texts.size(); ++b)
            if (!known(batch.readings[b])) keep(batch.readings[b], texts[b]);
        });
  }

  std::vector<Reading> prompts(int64_t max_tokens, bool second) const {
    std::vector<Reading> out;
    for (size_t i = 0; i < items_.items.size(); ++i) {
      const BenchmarkItem& item = items_.items[i];
      std::string text = item.contexts[0];
      if (second)
        text +=
            results_.results().at(i).at("text").get<std::string>() + task_.definition.second_prompt;
      Reading prompt;
      prompt.context = prompt_reading(text, max_tokens, reading(), prompt.cut);
      prompt.part = item.group;
      out.push_back(std::move(prompt));
    }
    return out;
  }

  void write_answers() {
    const BenchmarkDefinition& d = task_.definition;
    const bool twice = !d.second_prompt.empty();
    std::vector<bool> written(items_.items.size()), answered(items_.items.size());
    for (size_t i = 0; i < written.size(); ++i) {
      written[i] = results_.results().contains(i);
      answered[i] = complete(i);
      done_ += answered[i];
    }
    const std::vector<Reading> first = prompts(d.max_tokens, false);
    write(
        first, d.max_tokens, [&](size_t i) { return bool(written[i]); },
        [&](size_t i, const WrittenText& text) {
          const Json result = {{"text", with_replacements(text.text)},
                               {"tokens", text.tokens},
                               {"cut", first[i].cut}};
          results_.add(i, result);
          if (!twice) ++done_;
          written[i] = true;
        });
    if (!twice) return;
    activity_.now(fmt::format("task {}: answers", d.name));
    const std::vector<Reading> second = prompts(d.second_max_tokens, true);
    write(
        second, d.second_max_tokens, [&](size_t i) { return bool(answered[i]); },
        [&](size_t i, const WrittenText& text) {
          Json result = results_.results().at(i);
          result["second_text"] = with_replacements(text.text);
          result["second_tokens"] = text.tokens;
          result["cut"] = result.value("cut", false) || second[i].cut;
          keep(i, result);
          answered[i] = true;
        });
  }

  const UsableModel& model_;
  const DefinitionFile& task_;
  const BenchmarkItems& items_;
  EvaluationMode mode_;
  ForwardAudit audit_;
  TextReader reader_;
  std::shared_ptr<ResultsFile> kept_;
  ResultsFile& results_;
  Activity activity_;
  int64_t done_ = 0;
};

}  // namespace

void require_askable(const BenchmarkDefinition& definition, const BenchmarkOptions& options) {
  const int64_t every = options.latents_every;
  require(every >= 0, "latents_every is {}, wanted 0 (once) or more", every);
  require(
      every == 0 || options.latents,
      "--latents-every {} is of latents, and none are asked for: wanted --latents beside it, or "
      "leave it out",
      every);
  require(
      every == 0 || definition.type == "generate",
      "--latents-every {} is for answers that the model writes (tasks of type \"generate\"), and "
      "task {} is of type \"{}\", whose contexts are followed by no written text: leave it out",
      every, definition.name, definition.type);
}

std::string definition_hash(const BenchmarkDefinition& definition) {
  const std::string text = json_text(definition_json(definition));
  return hash_bytes(text.data(), text.size());
}

BenchmarkResult run_benchmark(const UsableModel& model, const DefinitionFile& task,
                              const BenchmarkItems& items, const BenchmarkOptions& options) {
  require_askable(task.definition, options);
  return Evaluation(model, task, items, options).run();
}

}  // namespace reverie
