#include <fmt/format.h>
#include <fmt/ranges.h>
#include <unistd.h>

#include <filesystem>

#include "core/error.h"
#include "core/files.h"
#include "trainers/cli/arguments.h"
#include "trainers/cli/commands.h"
#include "trainers/reports/markdown.h"
#include "trainers/runs/output_files.h"
#include "trainers/tables/plots_of_file.h"
#include "trainers/tables/runs/run_report.h"
#include "trainers/text/terminal.h"

namespace reverie {
namespace {

struct ReportArguments {
  std::vector<std::string> runs;
  std::string out, plots_of;
};

// TensorBoard with the runs' own names, as a terminal shows it.
std::string tensorboard_command(const std::vector<RunRecord>& runs) {
  std::vector<std::string> parts;
  for (const RunRecord& run : runs) {
    // Its list has no quotes: commas and colons part it.
    if ((run.name + run.directory).find_first_of(",:") != std::string::npos)
      return fit_terminal(
          STDOUT_FILENO,
          "TensorBoard's list of directories has no place for the comma or colon in " +
              shell_word(run.directory) + ": tensorboard --logdir takes one directory");
    parts.push_back(fmt::format("{}:{}/tensorboard", run.name, run.directory));
  }
  return fit_command(STDOUT_FILENO, "tensorboard --logdir_spec " +
                                        shell_word(fmt::format("{}", fmt::join(parts, ","))));
}

// Runs whose directories have one name are told apart by their paths.
void make_names_differ(std::vector<RunRecord>& runs) {
  std::vector<std::string> names;
  for (const RunRecord& run : runs) names.push_back(run.name);
  for (RunRecord& run : runs)
    if (std::count(names.begin(), names.end(), run.name) > 1) run.name = run.directory;
}

// The plots of a table beside it, and the lines that show them in a Markdown file there.
void write_plots(const std::string& table, const std::string& given) {
  namespace fs = std::filesystem;
  const auto parent = fs::path(table).parent_path();
  const std::string directory = !given.empty() ? given : parent.empty() ? "." : parent.string();
  const auto plots = plots_of_file(table);
  fs::create_directories(directory);
  for (const PlotFile& plot : plots) write_file_atomically(directory + "/" + plot.name, plot.svg);
  fmt::print("{}", markdown_plots(plots));
}

// The directory of a run that may be named as RUN@last. A page shows a whole run.
std::string whole_run(const std::string& given) {
  const auto named = find_run(given);
  if (!named) return given;  // read_run_record() says what it is not
  if (named->checkpoint.empty()) return named->directory;
  throw ConfigError(fmt::format(
      "{} is one checkpoint, and a page shows a whole run: its curves, and what it came to. Wanted "
      "`reverie report {}`; the losses of this checkpoint: `reverie eval {}`",
      given, shell_word(named->directory), shell_word(given)));
}

void run(const ReportArguments& a) {
  if (a.runs.empty() == a.plots_of.empty())
    throw ConfigError("wanted run directories, or --plots-of a table, and not both");
  if (!a.plots_of.empty()) {
    write_plots(a.plots_of, a.out);
    return;
  }
  if (!a.out.empty() && std::filesystem::path(a.out).extension() != ".html")
    throw ConfigError(fmt::format(
        "--out {} is no page: wanted a file that ends in .html, which is replaced", a.out));
  std::vector<RunRecord> runs;
  for (const std::string& directory : a.runs) runs.push_back(read_run_record(whole_run(directory)));
  make_names_differ(runs);
  if (runs.size() == 1) {
    const std::string file = a.out.empty() ? runs[0].directory + "/report.html" : a.out;
    require_outputs({{"--out", file}}, {});
    write_file_atomically(file, run_report_html(runs[0]));
    fmt::print("{}\n", file);
    return;
  }
  const std::string file = a.out.empty() ? "comparison.html" : a.out;
  require_outputs({{"--out", file}}, {});
  std::string command = "reverie report";
  for (const std::string& directory : a.runs) command += " " + shell_word(directory);
  if (!a.out.empty()) command += " --out " + shell_word(a.out);
  write_file_atomically(file, comparison_html(runs, command));
  fmt::print("{}\n", file);
  fmt::print("{}\n", tensorboard_command(runs));
}

}  // namespace

void add_report_command(CLI::App& app) {
  auto* command =
      app.add_subcommand("report", "Write a page of one run, or a page that compares several runs");
  auto a = std::make_shared<ReportArguments>();
  command->add_option("runs", a->runs, "run directories, finished or not");
  command->add_option("--out", a->out,
                      "where the page goes (default: RUN/report.html; for several runs: "
                      "comparison.html; for plots: the table's directory)");
  command->add_option("--plots-of", a->plots_of,
                      "draw the plots of a table.json or table.csv again instead: SVG files "
                      "beside it, and the Markdown that shows them on stdout");
  command->callback([a] { run(*a); });
}

}  // namespace reverie
