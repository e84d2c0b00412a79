#pragma once
/// A small table of latents, from its file on.

#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <string>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/signals.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"
#include "trainers/tables/repro.h"

namespace reverie::testing {

class LatentReproTest : public ::testing::Test {
 protected:
  LatentReproTest() {
    std::ofstream text(directory_ / "text.txt");
    for (int i = 0; i < 400; ++i)
      text << "The " << i * i % 97 << ". line of a made-up text, to be learnt.\n";
  }
  Json table() const {
    Json t = parse_json(R"({
      "kind": "latent_effect", "title": "a small table of latents",
      "report": {"paper": {"coprocessor": {"2": {"1": -1.5}}}},
      "base": {"data": {}, "train": {"steps": 4, "batch_size": 4},
        "evaluation": {"interval": 0, "windows": 2, "prefix_only_windows": 1, "final_windows": 2, "final_prefix_only_windows": 1},
        "sample": {"tokens": 0}, "optimizer": {"warmup_steps": 1, "learning_rate": 0.01}},
      "augmented": {"model": {"type": "augmented", "block_size": 16, "groups": 4, "ahead": 4}},
      "models": {
        "coprocessor": {"model": {"latents": {"type": "coprocessor"}}},
        "pause": {"model": {"latents": {"type": "soft_embeddings"}}},
        "cotrained": {"model": {"latents": {"type": "coprocessor"}, "train_base": true}},
        "continued": {"model": {"type": "pretrained", "block_size": 16}}},
      "shuffled": ["coprocessor", "pause"],
      "measure": {"positions": 6, "points": 3, "windows": 9, "shown": [1, 4], "resamples": 20},
      "presets": {"tiny": {
        "cells": {"coprocessor": [2], "pause": [2], "cotrained": [2], "continued": []}, "seeds": [1, 2],
        "pretraining": {"model": {"type": "llama", "block_size": 32, "n_layer": 2, "n_head": 2, "n_embd": 16, "n_hidden": 32},
          "train": {"steps": 30}}}}})");
    t["base"]["data"] = {{"path", directory_ / "text.txt"},
                         {"prepared_directory", directory_ / "tokens"}};
    return t;
  }
  ReproOptions options(const Json& table) const {
    write_file_atomically(directory_ / "table.json", json_text(table));
    ReproOptions o;
    o.table_file = directory_ / "table.json";
    o.preset = "tiny";
    o.directory = directory_ / "out";
    return o;
  }
  std::string refused(const Json& table) const {
    return message_of<ConfigError>([&] { plan_table(options(table)); });
  }

  TemporaryDirectory directory_;
  SignalGuard signals_;
};

}  // namespace reverie::testing
