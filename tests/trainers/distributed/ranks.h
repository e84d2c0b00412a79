#pragma once
// Ranks as threads, and tiny experiments for them.

#include <exception>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

#include "core/error.h"
#include "support/temporary_directory.h"
#include "trainers/distributed/local_transport.h"
#include "trainers/monitoring/metrics.h"
#include "trainers/runs/checkpoint.h"
#include "trainers/training/monitored_trainer.h"

namespace reverie::testing {

// Runs body(communicator) on a thread for each; one that throws tells the others, as the command
// line does. What each threw, or "", by rank.
inline std::vector<std::string> run_ranks(
    const std::vector<std::shared_ptr<Communicator>>& communicators,
    const std::function<void(Communicator&)>& body) {
  std::vector<std::string> errors(communicators.size());
  std::vector<std::thread> threads;
  for (size_t r = 0; r < communicators.size(); ++r)
    threads.emplace_back([&, r] {
      try {
        body(*communicators[r]);
      } catch (const std::exception& e) {
        errors[r] = e.what();
        if (!communicators[r]->failing_together()) communicators[r]->abort(1, e.what());
      }
    });
  for (auto& t : threads) t.join();
  return errors;
}
inline std::vector<std::string> run_ranks(int ranks,
                                          const std::function<void(Communicator&)>& body) {
  return run_ranks(make_local_communicators(ranks), body);
}

// What must not depend on the number of ranks.
struct Outcome {
  NamedTensors weights, moments;
  Json losses = Json::array();  // every loss, gradient norm and evaluation, and the sample
  Json state;
};

class Experiments {
 public:
  Experiments() {
    std::ofstream text(directory_ / "text.txt");
    for (int i = 0; i < 300; ++i)
      text << "The " << i << ". line of a made-up text, to be learnt.\n";
  }
  // `patch` is merged into a tiny experiment in f64, with dropout.
  ExperimentOptions options(const std::string& patch = "{}") const {
    Config c = Config::parse(
        R"({"seed": 7, "precision": "f64",
      "model": {"type": "gpt2", "block_size": 16, "n_layer": 2, "n_head": 2, "n_embd": 16, "dropout": 0.1},
      "train": {"steps": 6, "batch_size": 12},
      "optimizer": {"warmup_steps": 2, "learning_rate": 0.01, "gradient_clip": 0.5},
      "evaluation": {"interval": 3, "windows": 9, "batch_size": 2, "prefix_only_windows": 2, "final_windows": 8, "final_prefix_only_windows": 4},
      "sample": {"interval": 0, "tokens": 5}, "checkpoint": {"interval": 2, "keep": 0},
      "distributed": {"bucket_megabytes": 0.005, "timeout_seconds": 30}})",
        "test");
    c.set("data.path=" + (directory_ / "text.txt"));
    const bool documents = patch.find("document_separator") != patch.npos;
    c.set("data.prepared_directory=" + (directory_ / (documents ? "documents" : "tokens")));
    c.merge(Config::parse(patch, "patch"));
    return read_experiment(c, ".");
  }
  RunControl control(const std::string& name, Communicator& communicator) const {
    RunControl c;
    c.run_directory = directory_ / name;
    c.communicator = &communicator;
    return c;
  }
  // Trains and says what each rank threw.
  std::vector<std::string> train(const std::string& name, const ExperimentOptions& options,
                                 const std::vector<std::shared_ptr<Communicator>>& communicators,
                                 bool resume = false,
                                 std::optional<int64_t> stop_after = {}) const {
    return run_ranks(communicators, [&](Communicator& communicator) {
      RunControl c = control(name, communicator);
      c.resume = resume;
      c.stop_after = stop_after;
      MonitoredTrainer(options, c).run();
    });
  }
  std::vector<std::string> train(const std::string& name, const ExperimentOptions& options,
                                 int ranks, bool resume = false,
                                 std::optional<int64_t> stop_after = {}) const {
    return train(name, options, make_local_communicators(ranks), resume, stop_after);
  }
  Outcome outcome(const std::string& name) const {
    CheckpointContents c = read_checkpoint(latest_checkpoint(directory_ / name).value());
    Outcome o{std::move(c.model), std::move(c.optimizer), Json::array(), std::move(c.state)};
    for (const Json& e : read_metrics(directory_ / name))
      for (const auto& [key, value] : e.items())
        if (key != "seconds" && key != "tokens_per_second" && key != "time")
          o.losses.push_back({key, value});
    return o;
  }
  const TemporaryDirectory& directory() const { return directory_; }

 private:
  TemporaryDirectory directory_;
};

// Names of what differs, bit by bit; empty: nothing.
inline std::vector<std::string> differences(const Outcome& a, const Outcome& b) {
  std::vector<std::string> list;
  for (const auto& [what, x, y] : {std::tuple("weights", &a.weights, &b.weights),
                                   std::tuple("moments", &a.moments, &b.moments)}) {
    if (x->size() != y->size()) list.push_back(std::string(what) + ": their number");
    for (size_t i = 0; i < std::min(x->size(), y->size()); ++i)
      if ((*x)[i].first != (*y)[i].first || !bit_identical((*x)[i].second, (*y)[i].second))
        list.push_back(std::string(what) + ": " + (*x)[i].first);
  }
  if (a.losses != b.losses) list.push_back("losses");
  for (const char* key : {"step", "tokens", "batch", "random_offset", "memory_counters"})
    if (a.state.at(key) != b.state.at(key)) list.push_back(std::string("state: ") + key);
  return list;
}

}  // namespace reverie::testing
