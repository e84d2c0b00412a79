// The command line.

#include <fmt/format.h>

#include <csignal>
#include <exception>

#include "core/error.h"
#include "core/log.h"
#include "trainers/cli/commands.h"
#include "trainers/monitoring/machine.h"

int main(int argc, char** argv) {
  using namespace reverie;
  CLI::App app{
      "Reverie trains language models that think in latent space, and does not let them fool you.\n"
      "Start with: reverie repro configs/tables/imm_shakespeare.json --preset smoke\n"
      "Exit codes: 0 ok, 1 runtime, 2 usage or config, 3 corrupt data, 4 diverged, 5 check failed, "
      "128+n stopped by signal n."};
  app.name("reverie");
  app.require_subcommand(1);
  app.set_version_flag("--version", fmt::format("reverie 0.1.0 ({})", build_commit()));
  app.get_formatter()->column_width(34);
  add_train_command(app);
  add_eval_command(app);
  add_sample_command(app);
  add_prepare_command(app);
  add_repro_command(app);
  add_check_command(app);
  add_inspect_command(app);
  add_modules_command(app);
  add_plan_command(app);
  add_doctor_command(app);
  try {
    app.parse(argc, argv);
    return 0;
  } catch (const CLI::RuntimeError& e) {
    return e.get_exit_code();
  } catch (const CLI::ParseError& e) {
    // CLI11's own codes vary by error; --help and --version are not errors.
    return app.exit(e) == 0 ? 0 : int(ExitCode::usage);
  } catch (const Error& e) {
    log_error("{}", e.what());
    return int(e.exit_code());
  } catch (const std::bad_alloc&) {
    log_error("out of memory");
    return int(ExitCode::runtime);
  } catch (const std::exception& e) {
    log_error("{}", e.what());
    return int(ExitCode::runtime);
  }
}
