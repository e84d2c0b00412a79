#include "trainers/training/run_checkpoint.h"

#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "core/machine.h"
#include "core/plugin.h"
#include "core/random.h"
#include "datasets/document_sampler.h"
#include "trainers/runs/checkpoint_weights.h"
#include "trainers/runs/recorded_run.h"
#include "trainers/runs/resumption.h"
#include "trainers/runs/stored_run.h"

namespace reverie {
namespace {

void require_same_run(const SavedParts& run, const StoredCheckpoint& stored,
                      const std::string& run_directory) {
  const Json& state = stored.contents.state;
  for (const char* key : {"step", "tokens", "seconds", "batch", "random_seed", "random_offset",
                          "memory_counters", "data_hash", "numerics", "config"})
    if (!state.contains(key))
      throw DataError(
          fmt::format("{}/state.json has no \"{}\": it was not written by this version of reverie",
                      stored.directory, key));
  const auto differences =
      obstacles_to_resuming(in_todays_form(state.at("config"), run_directory), run.resolved_config);
  if (!differences.empty())
    throw ConfigError(
        fmt::format("{} was made with another config: {}", stored.directory, differences.front()));
  if (state.at("data_hash") != run.dataset.hash)
    throw ConfigError(fmt::format("{} was trained on other tokens (data hash {}, now {})",
                                  stored.directory, state.at("data_hash").get<std::string>(),
                                  run.dataset.hash));
  const Json now = numerics_of(run);
  if (run.communicator.first() && numerics_differ(state.at("numerics"), now))
    log_warning(
        "resuming with {}, while the run had {} before: results will be close, but not "
        "bit-identical",
        json_text(now), json_text(state.at("numerics")));
}

RunState state_in(const Json& json) {
  RunState state;
  state.step = json.at("step");
  state.tokens = json.at("tokens");
  state.seconds = json.at("seconds");
  state.evaluation_due = json.value("evaluation_due", false);
  if (json.contains("best"))
    state.best = RunState::Best{json.at("best").at("step"), json.at("best").at("val_loss")};
  return state;
}

// Earlier versions read documents as one text, and carried memory from each into the next.
constexpr const char* kDocumentsBeginClean = "documents_begin_clean";
bool reads_documents(const SavedParts& run) {
  return dynamic_cast<const DocumentSampler*>(&run.sampler) != nullptr;
}

std::map<std::string, int64_t> counters_in(const Json& json) {
  const Json& counters = json.at("memory_counters");
  if (counters.empty()) return {};
  return counters.at(0).get<std::map<std::string, int64_t>>();
}

}  // namespace

Json numerics_of(const SavedParts& run) {
  return machine_numerics(run.split.exact(), run.options.parameter_dtype(),
                          run.communicator.size());
}

CheckpointContents checkpoint_contents(const SavedParts& run) {
  const Verdict& verdict = run.gate.verdict();
  CheckpointContents c;
  c.optimizer = run.optimizer.state();
  c.memory = run.carried.whole(run.split, run.communicator);
  c.model_metadata = {{"format", "pt"}, {"config", run.options.model.resolved->dump()}};
  c.state = {{"step", run.state.step},
             {"tokens", run.state.tokens},
             {"seconds", run.state.seconds},
             {"batch", run.sampler.position()},
             {"random_seed", default_generator().seed()},
             {"random_offset", default_generator().offset()},
             {"memory_counters", Json::array({run.carried.counters()})},
             {"data_hash", run.dataset.hash},
             {"numerics", numerics_of(run)},
             {"commit", build_commit()},
             {"config", run.resolved_config}};
  if (const auto plugins = plugin_hashes(); !plugins.empty()) c.state[kPluginsKey] = plugins;
  save_weights(run.model, c);
  c.state["verdict"] = verdict.json();
  c.model_metadata["verdict"] = verdict.line();
  if (run.state.evaluation_due) c.state["evaluation_due"] = true;
  if (reads_documents(run)) c.state[kDocumentsBeginClean] = true;
  if (const auto& best = run.state.best)
    c.state["best"] = {{"step", best->step}, {"val_loss", best->val_loss}};
  if (!verdict.label().empty()) c.state["label"] = c.model_metadata["label"] = verdict.label();
  return c;
}

void restore(const SavedParts& run, const StoredCheckpoint& stored,
             const std::string& run_directory) {
  require_same_run(run, stored, run_directory);
  const Json& state = stored.contents.state;
  run.gate.remember(notes_on_plugins(state));
  load_weights(run.model, stored);
  run.state = state_in(state);
  run.sampler.seek(state.at("batch"));
  default_generator() = Generator(state.at("random_seed"), state.at("random_offset"));
  NamedTensors moments = stored.contents.optimizer, memory = stored.contents.memory;
  if (memory.empty()) memory = take_earlier_memory(moments);
  if (reads_documents(run) && !state.value(kDocumentsBeginClean, false)) {
    if (run.communicator.first())
      log_warning(
          "{} was written by a version that carried memory from one document into the next. From "
          "here on every document begins with a clean memory, and documents come in another order: "
          "the run goes on, but not as it would have",
          stored.directory);
    run.carried.clear(run.split);
  } else {
    run.carried.load(run.split, run.options.tensor_device(), memory, counters_in(state));
  }
  run.optimizer.load(moments, run.state.step);
  run.gate.remember(verdict_on_disk(run_directory, state));
  if (run.communicator.first()) log_info("resumed {} at step {}", run_directory, run.state.step);
}

}  // namespace reverie
