// The command line.

#include <fcntl.h>
#include <fmt/format.h>
#include <signal.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <exception>
#include <memory>
#include <string>
#include <string_view>
#include <system_error>
#include <vector>

#include "core/config.h"
#include "core/error.h"
#include "core/log.h"
#include "core/machine.h"
#include "trainers/cli/arguments.h"
#include "trainers/cli/commands.h"
#include "trainers/generation/latents_aside.h"
#include "trainers/text/activity.h"
#include "trainers/text/terminal.h"

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

// Where a standard stream is closed, the next file opened would get its number, and messages would
// be written into that file.
void open_standard_streams() {
  for (const int stream : {STDIN_FILENO, STDOUT_FILENO, STDERR_FILENO})
    if (::fcntl(stream, F_GETFD) < 0 && errno == EBADF) (void)!::open("/dev/null", O_RDWR);
}

void handle_bus_error(int) {
  constexpr std::string_view message =
      "\nerror: a file that is mapped into memory became shorter, or its disk failed; the run's "
      "checkpoints are complete: restore the file and continue with --resume\n";
  [[maybe_unused]] const auto written = ::write(STDERR_FILENO, message.data(), message.size());
  ::_exit(int(reverie::ExitCode::corrupt_data));
}

// A reader that left and a file that may not grow are errors of write(), which are handled; as
// signals they would end the program without a word.
void turn_signals_into_errors() {
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
  ::signal(SIGBUS, handle_bus_error);
}

// What was printed may wait in a buffer. `status` unless it cannot be written; then another than 0.
int finish_output(int status) {
  const bool failed_before = std::ferror(stdout) != 0;
  errno = 0;
  const bool failed = std::fflush(stdout) != 0 || failed_before;
  if (!failed || status != 0) return status;
  if (errno == EPIPE) return 128 + SIGPIPE;  // `reverie ... | head`: as shells expect it
  reverie::log_error("cannot write to standard output: {}",
                     std::generic_category().message(errno ? errno : EIO));
  return int(reverie::ExitCode::runtime);
}

// "..." behind an option's type stands for several values in a row: an option that takes one each time
// it is given has none.
// Lines are as wide as the terminal.
class HelpFormatter final : public CLI::Formatter {
 public:
  std::string make_option_opts(const CLI::Option* option) const override {
    std::string text = CLI::Formatter::make_option_opts(option);
    constexpr std::string_view kSeveral = " ...";
    if (const size_t at = text.find(kSeveral);
        at != std::string::npos && !option->get_allow_extra_args())
      text.erase(at, kSeveral.size());
    return text;
  }
  std::string make_help(const CLI::App* app, std::string name,
                        CLI::AppFormatMode mode) const override {
    return reverie::fit_list(STDOUT_FILENO, CLI::Formatter::make_help(app, name, mode));
  }
};

void add_commands(CLI::App& app) {
  using namespace reverie;
  app.name("reverie");
  app.require_subcommand(1);
  app.set_version_flag("--version", fmt::format("reverie 0.1.0 ({})", build_commit()));
  app.formatter(std::make_shared<HelpFormatter>());
  app.get_formatter()->column_width(34);
  add_train_command(app);
  add_eval_command(app);
  add_sample_command(app);
  add_serve_command(app);
  add_prepare_command(app);
  add_repro_command(app);
  add_report_command(app);
  add_sweep_command(app);
  add_check_command(app);
  add_inspect_command(app);
  add_modules_command(app);
  add_plan_command(app);
  add_doctor_command(app);
}

// Whether `word` is a command; if not, an error that names the nearest one. CLI11 alone would only
// say that a subcommand is missing.
bool is_command(const CLI::App& app, const std::string& word) {
  std::vector<std::string> known;
  for (const CLI::App* command : app.get_subcommands(nullptr)) known.push_back(command->get_name());
  if (std::find(known.begin(), known.end(), word) != known.end()) return true;
  const auto near = reverie::nearest_name(word, known);
  reverie::log_error("there is no command \"{}\"{} Known commands: {}", word,
                     near ? fmt::format("; did you mean \"{}\"?", *near) : ".",
                     fmt::join(known, ", "));
  return false;
}

// The program's exit status; whatever was thrown has become a message.
int parse_and_run(CLI::App& app, int argc, char** argv) {
  using namespace reverie;
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
  } catch (const std::system_error& e) {  // of fmt::print
    if (e.code() == std::errc::broken_pipe) return 128 + SIGPIPE;
    log_error("{}", e.what());
    return int(ExitCode::runtime);
  } catch (const std::exception& e) {
    log_error("{}", e.what());
    return int(ExitCode::runtime);
  } catch (...) {  // reverie throws nothing else
    log_error(
        "a plugin threw an object that is no std::exception, so there is no message: let it "
        "throw an exception with a message");
    return int(ExitCode::runtime);
  }
}

// The first argument that is empty and may not be, or 0. An empty file or directory would be read
// as none, and something else be done.
int empty_argument(int argc, char** argv) {
  constexpr std::string_view texts[] = {"--prompt", "--stop", "--system"};
  for (int i = 1; i < argc; ++i)
    if (argv[i][0] == 0 && std::find(std::begin(texts), std::end(texts),
                                     std::string_view(argv[i - 1])) == std::end(texts))
      return i;
  return 0;
}

int run(int argc, char** argv) {
  reverie::Activity::show_all(true);
  reverie::set_log_layout([](const std::string& message, int before) {
    return reverie::fit_terminal(STDERR_FILENO, message, before);
  });
  CLI::App app{
      "Reverie trains language models that think in latent space, and does not let them fool "
      "you.\nStart with: `reverie repro configs/tables/imm_shakespeare.json --preset smoke`\nExit "
      "codes: 0 success; 1 error at run time; 2 wrong usage or config; 3 corrupt data; 4 "
      "training diverged; 5 check failed, or the run leaks; 128 + n stopped by signal n."};
  add_commands(app);
  if (const int empty = empty_argument(argc, argv)) {
    reverie::log_error(
        "argument {} is empty: got \"\" behind {}; wanted a value, or the option left out (is a "
        "variable of the shell not set?)",
        empty, argv[empty - 1]);
    return int(reverie::ExitCode::usage);
  }
  if (argc > 1 && argv[1][0] != '-' && !is_command(app, argv[1]))
    return int(reverie::ExitCode::usage);
  return parse_and_run(app, argc, argv);
}

}  // namespace

int main(int argc, char** argv) {
  open_standard_streams();
  limit_openmp_spinning(argv);
  turn_signals_into_errors();
  if (argc > 0) reverie::program_name() = argv[0];
  const int status = finish_output(run(argc, argv));
  // A coprocessor that takes for ever still reads what the end of a process would destroy.
  if (reverie::LatentsAside::left_alone() > 0) std::_Exit(status);
  return status;
}
