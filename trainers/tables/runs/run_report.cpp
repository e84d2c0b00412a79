#include "trainers/tables/runs/run_report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "trainers/monitoring/metrics.h"
#include "trainers/reports/numbers.h"
#include "trainers/reports/page.h"
#include "trainers/runs/run_directory.h"
#include "trainers/runs/verdict.h"
#include "trainers/tables/runs/run_plots.h"
#include "trainers/text/html.h"
#include "trainers/text/quantities.h"

namespace reverie {
namespace {

constexpr size_t kMostSamples = 12;

std::string leak_mark(const RunRecord& run) {
  const std::string label = run.label();
  return label.empty() ? "" : " <span class=\"leaks\">" + escape_html(label) + "</span>";
}

std::string verdict_html(const RunRecord& run) {
  if (!run.label().empty()) return "<span class=\"leaks\">" + escape_html(run.label()) + "</span>";
  const std::string verdict = escape_html(run.verdict());
  return verdict == "causal" ? "<span class=\"causal\">causal</span>" : verdict;
}

std::string loss_text(const RunRecord& run, const char* key) {
  const double loss = run.figure(key);
  return std::isnan(loss) ? std::string(kUnknown) : format_loss(loss);
}

std::string steps_text(const RunRecord& run) {
  const double planned = metric_value(run.config.at("train"), "steps");
  return format_integer(run.last_step()) +
         (run.finished() || std::isnan(planned) ? "" : " of " + format_integer(int64_t(planned)));
}

std::string definition(const std::string& name, const std::string& html) {
  return "<dt>" + escape_html(name) + "</dt><dd>" + html + "</dd>\n";
}

// "gpt2 with imm".
std::string model_text(const RunRecord& run) {
  const Json& model = run.config.at("model");
  std::string text = model.value("type", "");
  if (const auto memory = model.find("memory"); memory != model.end() && memory->is_object())
    text += " with " + memory->value("type", "memory");
  return text;
}

std::string data_text(const RunRecord& run) {
  if (!run.dataset.is_object()) return kUnknown;
  const Json source = run.dataset.value("source", Json::object());
  const auto tokens = [&](const char* part) {
    return format_integer(int64_t(metric_value(run.dataset.value(part, Json::object()), "tokens")));
  };
  std::string text = source.value("name", "");
  if (run.dataset.contains("train") && run.dataset.contains("validation"))
    text +=
        fmt::format(", {} tokens to train, {} to validate", tokens("train"), tokens("validation"));
  return text;
}

// What the losses behind latents are taken over.
std::string insertions_text(const RunRecord& run) {
  const Json& augmented = run.summary.at("augmented");
  std::string text = fmt::format("{} tokens behind {} insertions",
                                 format_integer(int64_t(run.figure("augmented.predictions"))),
                                 format_integer(int64_t(run.figure("augmented.insertions"))));
  if (const std::string rule = augmented.value("rule", ""); !rule.empty()) text += ": " + rule;
  return text;
}

std::string result_section(const RunRecord& run) {
  std::string out = "<section>\n<h2>What it came to</h2>\n<dl>\n";
  out += definition("verdict", verdict_html(run));
  if (run.finished()) {
    if (run.summary.contains("verdict"))
      out += definition("probes", escape_html(Verdict::of_file(run.summary).line()));
    const auto loss = [&](const std::string& name, const char* key) {
      out += definition(name, loss_text(run, key) + " nats per token" + leak_mark(run));
    };
    std::string of;  // whose losses of every token these are
    if (run.has_latents()) {
      loss("train, behind latents", "augmented.train_loss");
      loss("validation, behind latents", "augmented.val_loss");
      loss("validation, the base on the same tokens", "augmented.base_loss_on_same_predictions");
      out += definition("behind latents", escape_html(insertions_text(run)));
      of = "the base, every token: ";
    }
    loss(of + "train", "train_loss");
    loss(of + "validation, teacher-forced", "val_loss");
    loss(of + "validation, prefix-only", "val_loss_prefix_only");
    loss(of + "teacher-forced on the same windows", "val_loss_on_prefix_only_windows");
    if (run.carries_memory()) {
      loss("validation, memory carried", "val_loss_carried");
      loss("memory reset on the same windows", "val_loss_on_carried_windows");
    }
    out += definition("parameters", format_integer(int64_t(run.figure("parameters"))));
    out += definition("tokens seen", format_integer(int64_t(run.figure("tokens"))));
    out += definition("training time", format_duration(run.figure("seconds")) + ", " +
                                           format_count(run.figure("tokens_per_second")) +
                                           " tokens a second");
  } else if (run.leak.leaks()) {
    out += definition("probes", escape_html(run.leak.line()));
  }
  out += definition("model", escape_html(model_text(run)));
  out += definition("data", escape_html(data_text(run)));
  out += definition("steps", steps_text(run));
  return out +
         "</dl>\n<p class=\"quiet\"><i>Teacher-forced</i>: one forward over the whole block, "
         "as in training. <i>Prefix-only</i>: each position from a forward over its own "
         "prefix alone, as in generation.</p>\n</section>\n";
}

// Where in a window carried memory shows.
std::string carried_section(const RunRecord& run) {
  if (!run.carries_memory()) return "";
  const Json& carried = run.summary.at("carried");
  std::string interval;
  if (const Json& change = carried.at("change_when_reset"); change.is_object()) {
    interval = fmt::format(
        "Resetting the memory at each window changes the loss of later windows "
        "by {:+.4f} nats",
        change.at("change").get<double>());
    if (change.at("low").is_number())
      interval += fmt::format(" (95 % over {} texts: {:+.4f} to {:+.4f})",
                              change.at("texts").get<int64_t>(), change.at("low").get<double>(),
                              change.at("high").get<double>());
    interval += ".";
  }
  return "<section>\n<h2>Memory carried from window to window</h2>\n<p>" + escape_html(interval) +
         leak_mark(run) + "</p>\n" + line_figure(carried_by_position(run)) +
         "<p class=\"quiet\">Validation texts, read in consecutive windows; windows behind a "
         "text's "
         "first. <i>Carried</i>: each begins with the memory that the window before left. "
         "<i>Reset</i>: each begins with a clean memory.</p>\n</section>\n";
}

std::string curve_section(const RunRecord& run) {
  const std::string losses = line_figure(losses_of_run(run)), side = side_panels({run});
  if (losses.empty() && side.empty()) return "";
  return "<section>\n<h2>Curves</h2>\n" + losses + side +
         "<p class=\"quiet\">Training batches, gradient norm and speed are averaged over each "
         "hundredth of the run. Point at a curve for its values.</p>\n</section>\n";
}

// All samples, or so many evenly over the run, the last one included.
std::string sample_section(const RunRecord& run) {
  std::vector<const Json*> samples;
  for (const Json& event : run.metrics)
    if (event.at("event") == "sample" && event.value("text", Json()).is_string())
      samples.push_back(&event);
  if (samples.empty()) return "";
  std::vector<const Json*> shown;
  const size_t count = std::min(samples.size(), kMostSamples);
  for (size_t i = 0; i < count; ++i)
    shown.push_back(
        samples[count == 1 ? samples.size() - 1 : i * (samples.size() - 1) / (count - 1)]);
  std::string out = "<section>\n<h2>What it wrote</h2>\n<div class=\"samples\">\n";
  for (const Json* sample : shown)
    out += fmt::format("<article>\n<h3>step {}{}</h3>\n<pre>{}</pre>\n</article>\n",
                       format_integer(sample->at("step").get<int64_t>()), leak_mark(run),
                       escape_html(sample->at("text").get<std::string>()));
  out += "</div>\n";
  if (shown.size() < samples.size())
    out += fmt::format("<p class=\"quiet\">{} of {} samples.</p>\n", shown.size(), samples.size());
  return out + "</section>\n";
}

std::string config_section(const RunRecord& run) {
  return "<section>\n<h2>Config</h2>\n<details><summary>config.resolved.json, every default filled "
         "in</summary>\n<pre>" +
         escape_html(json_text(run.config, 2)) + "</pre></details>\n</section>\n";
}

std::string lead_of(const RunRecord& run) {
  const std::string leak =
      "The model saw the tokens it was asked to predict: these numbers say nothing about "
      "prediction.";
  if (!run.finished())
    return fmt::format(
        "Not finished: {} steps so far. Its losses are those of single evaluations.{}",
        steps_text(run), run.leaks() ? " " + leak : "");
  const std::string mark = run.label().empty() ? "" : " " + run.label();
  if (run.has_latents())
    return fmt::format(
        "Validation loss behind latents {} nats per token{}, the base's on the same tokens {}{}. "
        "{}",
        loss_text(run, "augmented.val_loss"), mark,
        loss_text(run, "augmented.base_loss_on_same_predictions"), mark,
        run.leaks() ? leak : "No logit depends on what it must not see.");
  return fmt::format("Validation loss {} nats per token{}, prefix-only {}{}. {}",
                     loss_text(run, "val_loss"), mark, loss_text(run, "val_loss_prefix_only"), mark,
                     run.leaks() ? leak : "No logit depends on what it must not see.");
}

Provenance provenance_of(const std::vector<RunRecord>& runs, const std::string& command) {
  Provenance p;
  p.command = command;
  std::string hash;
  for (const RunRecord& run : runs) {
    if (!run.finished()) continue;
    const Json data = run.summary.value("dataset", Json::object());
    if (hash.empty()) hash = data.value("hash", "");
    // Runs on other data may stand in a comparison, which says so above.
    if (data.value("hash", "") == hash) p.add_run(run.summary, run.directory);
  }
  return p;
}

bool same_data(const std::vector<RunRecord>& runs) {
  const auto hash = [](const RunRecord& run) {
    Json parts = Json::array();
    if (run.dataset.is_object())
      for (const char* part : {"train", "validation"})
        parts.push_back(run.dataset.value(part, Json::object()).value("checksum", Json()));
    return json_text(parts);
  };
  return std::all_of(runs.begin(), runs.end(),
                     [&](const RunRecord& run) { return hash(run) == hash(runs[0]); });
}

// The finished run without a label that predicts best; nullptr where there is none.
const RunRecord* best_of(const std::vector<RunRecord>& runs) {
  const RunRecord* best = nullptr;
  for (const RunRecord& run : runs) {
    const double loss = run.figure(run.objective());
    if (!run.finished() || !run.label().empty() || std::isnan(loss)) continue;
    if (!best || loss < best->figure(best->objective())) best = &run;
  }
  return best;
}

std::string results_table(const std::vector<RunRecord>& runs, const RunRecord* best) {
  std::string out =
      "<section>\n<h2>Results</h2>\n<div class=\"scroll\" tabindex=\"0\" role=\"region\" "
      "aria-label=\"Results\">\n<table>\n<thead><tr><th scope=\"col\" class=\"model\">run</th>"
      "<th scope=\"col\">verdict</th>";
  std::vector<const char*> keys{"val_loss", "val_loss_prefix_only", "train_loss"},
      headings{"val, teacher-forced", "val, prefix-only", "train"};
  if (std::any_of(runs.begin(), runs.end(), [](auto& run) { return run.carries_memory(); })) {
    keys.insert(keys.end() - 1, {"val_loss_carried", "val_loss_on_carried_windows"});
    headings.insert(headings.end() - 1, {"val, memory carried", "val, memory reset"});
  }
  const bool latents =
      std::any_of(runs.begin(), runs.end(), [](auto& run) { return run.has_latents(); });
  if (latents) {
    keys.insert(keys.begin(), {"augmented.val_loss", "augmented.base_loss_on_same_predictions"});
    headings.insert(headings.begin(), {"val, behind latents", "val, base on the same tokens"});
  }
  headings.insert(headings.end(), {"parameters", "steps", "tokens", "time"});
  for (const char* heading : headings)
    out += fmt::format("<th scope=\"col\" class=\"number\">{}</th>", heading);
  out += "</tr></thead>\n<tbody>\n";
  for (const RunRecord& run : runs) {
    out += fmt::format("<tr{}><th scope=\"row\" class=\"model\">{}</th><td>{}</td>",
                       &run == best ? " class=\"best\"" : "", escape_html(run.name),
                       verdict_html(run));
    for (const char* key : keys)
      out += "<td class=\"number\">" + loss_text(run, key) +
             (std::isnan(run.figure(key)) ? "" : leak_mark(run)) + "</td>";
    const auto whole = [&](const char* key) {
      return run.finished() ? format_integer(int64_t(run.figure(key))) : std::string(kUnknown);
    };
    for (const std::string& text :
         {whole("parameters"), steps_text(run), whole("tokens"),
          run.finished() ? format_duration(run.figure("seconds")) : std::string(kUnknown)})
      out += "<td class=\"number\">" + text + "</td>";
    out += "</tr>\n";
  }
  out += "</tbody>\n</table>\n</div>\n";
  if (latents)
    out +=
        "<p class=\"quiet\">Of a run with latents, <i>behind latents</i> is what its training "
        "lowers; the losses of every token (<i>teacher-forced</i>, <i>prefix-only</i>, "
        "<i>train</i>) are its base's.</p>\n";
  return out + "</section>\n";
}

// A key's path, which a narrow column breaks behind its dots.
std::string path_html(const std::string& path) {
  std::string out;
  for (const char c : escape_html(path)) out += c == '.' ? ".<wbr>" : std::string(1, c);
  return out;
}

std::string difference_table(const std::vector<RunRecord>& runs) {
  const auto rows = differing_values(runs);
  std::string out = "<section>\n<h2>What differs in their configs</h2>\n";
  if (rows.empty()) return out + "<p>Nothing.</p>\n</section>\n";
  out +=
      "<div class=\"scroll\" tabindex=\"0\" role=\"region\" aria-label=\"Configs\">\n<table>\n"
      "<thead><tr><th scope=\"col\" class=\"model\">value</th>";
  for (const RunRecord& run : runs) out += "<th scope=\"col\">" + escape_html(run.name) + "</th>";
  out += "</tr></thead>\n<tbody>\n";
  for (const ConfigDifference& row : rows) {
    out += "<tr><th scope=\"row\" class=\"model\">" + path_html(row.path) + "</th>";
    for (const std::string& value : row.values)
      out += "<td>" + (value.empty() ? std::string(kUnknown) : escape_html(value)) + "</td>";
    out += "</tr>\n";
  }
  return out + "</tbody>\n</table>\n</div>\n</section>\n";
}

}  // namespace

std::string run_report_html(const RunRecord& run) {
  std::string out = page_begin(run.name, lead_of(run));
  if (const Json note = run.finished()
                            ? run.summary.value("dataset", Json::object()).value("note", Json())
                            : Json();
      note.is_string() && !note.get<std::string>().empty())
    out += "<p class=\"notice\"><b>Data:</b> " + escape_html(note.get<std::string>()) + "</p>\n";
  out += "</header>\n" + result_section(run) + carried_section(run) + curve_section(run) +
         sample_section(run) + config_section(run);
  return out + page_end({}, provenance_of({run}, "reverie report " + run.directory));
}

std::string comparison_html(const std::vector<RunRecord>& runs, const std::string& command) {
  const bool comparable = same_data(runs), one_loss = same_losses(runs);
  const RunRecord* best = comparable && one_loss ? best_of(runs) : nullptr;
  std::string lead;
  if (best)
    lead = fmt::format(
        "The lowest validation loss{} is {} nats per token, of {}. One run each: how "
        "far seeds scatter is not known from this page.",
        best->has_latents() ? " behind latents" : "", loss_text(*best, best->objective()),
        best->name);
  else if (!comparable)
    lead = "These runs were trained on different data, so their losses cannot be compared.";
  else
    lead = one_loss ? "No run on this page has finished without a label, so none is called best."
                    : "Their losses are of different tokens (behind latents, by different rules, "
                      "or of every token), so none is called best.";
  std::string out = page_begin(fmt::format("{} runs beside one another", runs.size()), lead);
  if (!comparable)
    out +=
        "<p class=\"notice warning\">The data differ. Curves show how each run went, not which "
        "is better.</p>\n";
  out += "</header>\n" + results_table(runs, best) + difference_table(runs) +
         "<section>\n<h2>Curves</h2>\n";
  const char* unit = "nats per token";
  out += line_figure(
      value_of_runs(runs, "Validation loss behind latents", unit, "eval", "augmented.val_loss"));
  if (!std::all_of(runs.begin(), runs.end(), [](auto& run) { return run.has_latents(); })) {
    out += line_figure(value_of_runs(runs, "Validation loss", unit, "eval", "val_loss"));
    out += line_figure(
        value_of_runs(runs, "Validation loss, prefix-only", unit, "eval", "val_loss_prefix_only"));
  }
  out += line_figure(value_of_runs(runs, "Training batches", unit, "train", "loss"));
  out += side_panels(runs) +
         "<p class=\"quiet\">Training batches, gradient norm and speed are averaged over each "
         "hundredth of the longest run. Point at a curve for its values.</p>\n</section>\n";
  return out + page_end({}, provenance_of(runs, command));
}

void write_run_report(const std::string& run_directory) {
  const std::string file = run_directory + "/report.html";
  try {
    write_file_atomically(file, run_report_html(read_run_record(run_directory)));
  } catch (const std::exception& e) {
    log_warning("{} was not written: {}. Write it with: `reverie report {}`", file, e.what(),
                run_directory);
  }
}

void complete_finished_run(const std::string& run_directory) {
  const std::string lock = run_directory + "/" + kLockFile;
  const bool page = std::filesystem::exists(run_directory + "/report.html");
  if (page && !std::filesystem::exists(lock)) return;
  try {
    const FileLock taken(lock, "run directory " + run_directory);  // removes it at the end
    if (!page) write_run_report(run_directory);
  } catch (const std::exception&) {
    // Another process is at it, or nobody may write here: the run itself is whole.
  }
}

void RunReportCallback::on_end(const RunView& trainer) {
  write_run_report(trainer.run_directory());
}

}  // namespace reverie
