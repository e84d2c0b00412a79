#pragma once
/// The subcommands of `reverie`. Each adds itself to the application and runs when chosen.

#include <CLI/CLI.hpp>

namespace reverie {

void add_train_command(CLI::App&);
void add_eval_command(CLI::App&);
void add_sample_command(CLI::App&);
void add_prepare_command(CLI::App&);
void add_repro_command(CLI::App&);
void add_report_command(CLI::App&);
void add_sweep_command(CLI::App&);
void add_check_command(CLI::App&);
void add_inspect_command(CLI::App&);
void add_modules_command(CLI::App&);
void add_plan_command(CLI::App&);
void add_serve_command(CLI::App&);
void add_doctor_command(CLI::App&);

}  // namespace reverie
