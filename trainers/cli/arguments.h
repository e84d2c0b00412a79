#pragma once
// Arguments that several subcommands share.

#include <CLI/CLI.hpp>
#include <filesystem>
#include <string>
#include <vector>

#include "trainers/training/experiment.h"

namespace reverie {

// A subcommand throws this to end with a status that is not an error's.
[[noreturn]] inline void exit_with(int status) {
  throw CLI::RuntimeError(status);
}

struct ConfigArguments {
  std::string file;
  std::vector<std::string> overrides;
  void add_to(CLI::App& command, bool required = true) {
    auto* option = command.add_option(
        "config", file, "experiment, a JSON file (see `reverie train --print-schema`)");
    if (required) option->required();
    add_overrides(command);
  }
  void add_overrides(CLI::App& command) {
    // One value per --set, so that the config's name may follow.
    command
        .add_option("--set", overrides, "override one value: --set train.steps=100 (repeatable)")
        ->take_all()
        ->allow_extra_args(false);
  }
  std::string directory() const {
    const auto parent = std::filesystem::path(file).parent_path();
    return parent.empty() ? "." : parent.string();
  }
  Config config() const {
    Config c = Config::from_file(file);
    for (const auto& o : overrides) c.set(o);
    return c;
  }
  ExperimentOptions experiment() const { return read_experiment(config(), directory()); }
};

inline bool is_run_directory(const std::string& path) {
  return std::filesystem::exists(path + "/config.resolved.json");
}

}  // namespace reverie
