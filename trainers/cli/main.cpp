// The command line.

#include <fmt/format.h>
#include <unistd.h>

#include <cstdlib>
#include <exception>

#include "core/error.h"
#include "core/log.h"
#include "trainers/cli/commands.h"
#include "trainers/monitoring/machine.h"

namespace {

// OpenMP threads that wait for work spin for a millisecond or more by default. On a busy machine
// they take the time of the very threads they wait for: a step took four times as long beside two
// other programs. A tenth of that costs nothing on a quiet machine. The runtime (libgomp) reads the
// setting before main() begins, hence the second start; a user's own setting is left alone.
void limit_openmp_spinning(char** argv) {
  if (std::getenv("GOMP_SPINCOUNT") || std::getenv("OMP_WAIT_POLICY")) return;
  ::setenv("GOMP_SPINCOUNT", "10000", 0);
  ::execv("/proc/self/exe", argv);  // where there is no /proc, the default stays
}

}  // namespace

int main(int argc, char** argv) {
  using namespace reverie;
  limit_openmp_spinning(argv);
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
  } catch (...) {  // reverie throws nothing else
    log_error(
        "a plugin threw something that is no std::exception, so that it says nothing of itself: "
        "wanted an exception with a message");
    return int(ExitCode::runtime);
  }
}
