#include "trainers/monitoring/run_overview.h"

#include <fmt/format.h>
#include <omp.h>

#include <filesystem>
#include <nlohmann/json.hpp>

#include "kernels/kernel.h"
#include "kernels/matmul.h"
#include "layers/kept_weights.h"
#include "trainers/text/quantities.h"
#include "trainers/text/terminal.h"

namespace reverie {
namespace {

constexpr int kColumns = 80, kNames = 12;

std::string several(int64_t count, const std::string& what) {
  return fmt::format("{} {}{}", format_integer(count), what, count == 1 ? "" : "s");
}

// The nested component's type: "memory imm (causal_mean)".
std::string part_in_words(const Json& model, const char* key) {
  const auto part = model.find(key);
  if (part == model.end() || !part->is_object() || !part->contains("type")) return "";
  std::string out = fmt::format(", {} {}", key, part->at("type").get<std::string>());
  if (const Json mode = part->value("mode", Json()); mode.is_string())
    out += fmt::format(" ({})", mode.get<std::string>());
  if (const Json count = part->value("count", Json()); count.is_number_integer())
    out += fmt::format(" x {}", count.get<int64_t>());
  return out;
}

std::string parameters_in_words(const RunView& t) {
  int64_t trained = 0, all = 0;
  for (const auto& [name, parameter] : t.model().parameters()) {
    all += parameter.tensor().numel();
    if (parameter.requires_grad()) trained += parameter.tensor().numel();
  }
  if (trained == all) return format_integer(all) + ", all trained";
  const KeptWeights kept = kept_weights(t.model());
  return fmt::format("{}, of which trained: {}{}", format_integer(all), format_integer(trained),
                     kept.compact == 0 ? "" : "; " + kept_in_words(kept));
}

std::string device_in_words(const RunView& t) {
  const ExperimentOptions& o = t.options();
  std::string out = o.device;
  if (o.device == "cpu")
    out += fmt::format(" ({}, products by {})", name_of(active_isa()), matmul_library());
  out += ", " + o.precision;
  const int ranks = t.communicator().size();
  if (ranks > 1) out += ", " + several(ranks, "rank") + " of";
  return out + (ranks > 1 ? " " : ", ") + several(omp_get_max_threads(), "thread");
}

std::string data_in_words(const RunView& t) {
  const Dataset& data = t.dataset();
  // A config's "name" may be of another text than its "path".
  const std::filesystem::path file = std::filesystem::path(t.options().data.path).filename();
  const bool other = !file.empty() && file.stem() != data.name() &&
                     std::filesystem::is_regular_file(t.options().data.path);
  std::string more = other ? " (" + file.string() + ")" : "";
  if (data.train_mix && data.train_mix->entries.size() > 1)
    more = " (" + data.train_mix->in_words() + ")";
  if (data.window_begin) more += ", each window behind a begin-of-text token";
  return fmt::format("{}{}, {} tokens, {} held out, vocabulary {}", data.name(), more,
                     format_integer(data.train.count()), format_integer(data.validation.count()),
                     format_integer(data.vocabulary_size()));
}

std::string training_in_words(const RunView& t) {
  const TrainingOptions& o = t.options().train;
  const int64_t each = o.batch_size * o.windows * t.model().block_size(), all = each * o.steps;
  std::string out = fmt::format("{} x {} tokens = {}", several(o.steps, "step"),
                                format_integer(each), format_count(double(all)));
  const Dataset& data = t.dataset();
  if (data.train_mix) {
    for (const MixLayout::Entry& entry : data.train_mix->entries)
      out += fmt::format(", {:.3g} times {}", entry.share * double(all) / double(entry.tokens()),
                         entry.name);
  } else if (!data.examples && data.train.count() > 0) {
    out += fmt::format(", {:.3g} times the text", double(all) / double(data.train.count()));
  }
  if (t.step() > 0) out += fmt::format("; goes on from step {}", format_integer(t.step()));
  return out;
}

std::string causality_in_words(const RunView& t) {
  const Verdict& verdict = t.verdict();
  const std::string time = fmt::format("probed in {:.1f} s", t.gate_seconds());
  if (verdict.leaks())
    return fmt::format("{}, {}: {}", verdict.label(), time, verdict.first_leak()->probe);
  return verdict.word() + ", " + time;
}

}  // namespace

std::string model_in_words(const Json& model) {
  std::string out = model.value("type", "");
  const auto number = [&](const char* key) {
    const auto at = model.find(key);
    return at != model.end() && at->is_number_integer() ? at->get<int64_t>() : 0;
  };
  if (const int64_t n = number("n_layer")) out += ", " + several(n, "layer");
  if (const int64_t n = number("n_head")) out += ", " + several(n, "head");
  if (const int64_t n = number("n_embd")) out += ", width " + format_integer(n);
  if (const int64_t n = number("block_size")) out += ", block " + format_integer(n);
  for (const char* key : {"base", "path"})
    if (const Json path = model.value(key, Json()); path.is_string())
      out += fmt::format(", {} {}", key, path.get<std::string>());
  for (const char* key : {"memory", "latents"}) out += part_in_words(model, key);
  return out;
}

std::vector<std::pair<std::string, std::string>> run_overview(const RunView& t) {
  return {{"model", model_in_words(*t.options().model.resolved)},
          {"parameters", parameters_in_words(t)},
          {"device", device_in_words(t)},
          {"data", data_in_words(t)},
          {"training", training_in_words(t)},
          {"directory", t.run_directory()},
          {"causality", causality_in_words(t)}};
}

std::string run_overview_text(const RunView& trainer) {
  std::string out;
  for (const auto& [name, value] : run_overview(trainer)) {
    // A path is for copying, whatever its length.
    const bool cut = name != "directory" && columns_of(value) > kColumns - kNames;
    out += (out.empty() ? "" : "\n") + fmt::format("{:<{}}", name, kNames) +
           (cut ? fit_columns(value, kColumns - kNames - 3) + "..." : value);
  }
  return out;
}

}  // namespace reverie
