#pragma once
/// Arguments that several subcommands share.

#include <CLI/CLI.hpp>
#include <algorithm>
#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include "trainers/runs/earlier_spellings.h"
#include "trainers/runs/experiment.h"
#include "trainers/runs/run_reference.h"

namespace reverie {

/// A subcommand throws this to end with a status that is not an error's.
[[noreturn]] inline void exit_with(int status) {
  throw CLI::RuntimeError(status);
}

/// How this program was called, for commands that are printed to be pasted.
inline std::string& program_name() {
  static std::string name = "reverie";
  return name;
}
/// The file of this program, to start it again.
inline constexpr const char* kThisProgram = "/proc/self/exe";

/// A word as a shell reads it back.
inline std::string shell_word(const std::string& word) {
  constexpr std::string_view plain =
      "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./=,:@+%";
  if (!word.empty() && word.find_first_not_of(plain) == word.npos) return word;
  std::string out = "'";
  for (const char c : word) out += c == '\'' ? std::string("'\\''") : std::string(1, c);
  return out + "'";
}

struct ConfigArguments {
  std::string file;
  std::vector<std::string> overrides;
  bool lenient = false;
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
    add_lenient(command);
  }
  void add_lenient(CLI::App& command) {
    command.add_flag("--lenient", lenient,
                     "the config may hold // comments and commas before closing brackets");
  }
  std::string directory() const {
    const auto parent = std::filesystem::path(file).parent_path();
    return parent.empty() ? "." : parent.string();
  }
  Config config() const {
    Config c = Config::from_file(file, lenient);
    // Today's spelling on the command line meets a file of an earlier one.
    const bool schedule = std::any_of(overrides.begin(), overrides.end(), [](const auto& o) {
      return o.starts_with("optimizer.schedule") || o.starts_with("optimizer.type");
    });
    if (schedule && c.json().is_object()) c = Config(in_current_spelling(c.json()), c.path());
    for (const auto& o : overrides) c.set(o);
    return c;
  }
  ExperimentOptions experiment() const { return read_experiment(config(), directory()); }
};

constexpr const char* kShrinkHelp =
    "divide widths, depth, vocabulary, steps, batch and the like by K, and use random weights for "
    "a base and generated text where there is none: tries the same code in seconds. Everything "
    "says \"shrunk by K\"";
inline void add_shrink(CLI::App& command, int64_t& shrink) {
  command.add_option("--shrink", shrink, kShrinkHelp)
      ->type_name("K")
      ->check(CLI::Range(int64_t(1), int64_t(1) << 40));
}

/// Also RUN@STEP, RUN@best and a checkpoint's folder: see find_run().
inline bool names_run(const std::string& path) {
  return find_run(path).has_value();
}

}  // namespace reverie
