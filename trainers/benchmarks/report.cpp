#include "trainers/benchmarks/report.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"

namespace reverie {
namespace {

Json number(double value) {
  return std::isfinite(value) ? Json(value) : Json();
}

bool limited(const BenchmarkItems& items) {
  return int64_t(items.items.size()) < items.all;
}

Json estimate_json(const MeanEstimate& e) {
  return {{"value", number(e.mean)}, {"stderr", number(e.standard_error)}};
}

// Items of each part, in the order in which the parts come.
std::vector<std::pair<std::string, std::vector<size_t>>> parts_of(const BenchmarkItems& items) {
  std::vector<std::pair<std::string, std::vector<size_t>>> parts;
  std::map<std::string, size_t> known;
  for (size_t i = 0; i < items.items.size(); ++i) {
    const std::string& name = items.items[i].group;
    const auto [at, made] = known.try_emplace(name, parts.size());
    if (made) parts.emplace_back(name, std::vector<size_t>());
    parts[at->second].second.push_back(i);
  }
  return parts;
}

struct Parts {
  std::vector<std::string> names;
  std::vector<MeanEstimate> estimates;
  std::vector<int64_t> sizes;
  double macro() const {
    double sum = 0;
    for (const MeanEstimate& e : estimates) sum += e.mean / double(estimates.size());
    return sum;
  }
};

// The parts of a measure; none where the task has none.
Parts parts_of(const BenchmarkReport& r, const Measure& measure) {
  Parts out;
  if (r.task.definition.group.empty()) return out;
  for (const auto& [name, list] : parts_of(r.items)) {
    Measure part{measure.name, {}, measure.perplexity};
    for (const size_t i : list) part.values.push_back(measure.values[i]);
    out.names.push_back(name);
    out.estimates.push_back(part.estimate());
    out.sizes.push_back(int64_t(list.size()));
  }
  return out;
}

// Over all items; a task of parts has the error that lm-eval gives such a group.
MeanEstimate whole(const Measure& measure, const Parts& parts) {
  MeanEstimate e = measure.estimate();
  if (!parts.names.empty() && !measure.perplexity)
    e.standard_error = pooled_standard_error(parts.estimates, parts.sizes);
  return e;
}

// Values that two evaluations must share to be compared.
Json identity_json(const DefinitionFile& task, const BenchmarkItems& items) {
  return {{"task", task.definition.name},
          {"definition_hash", definition_hash(task.definition)},
          {"data_hash", items.data_hash},
          {"shots", items.shots},
          {"items", items.items.size()}};
}

Json head_json(const BenchmarkReport& r) {
  const BenchmarkDefinition& d = r.task.definition;
  Json out = identity_json(r.task, r.items);
  out.update({{"of", r.items.all},
              {"limited", limited(r.items)},
              {"mirrors", d.mirrors},
              {"type", d.type},
              {"model", r.model},
              {"latents", r.latents},
              {"data", r.items.data_file}});
  if (r.latents_every > 0) out["latents_every"] = r.latents_every;
  if (!d.split.empty()) out["split"] = d.split;
  if (r.other_data) out["other_data"] = true;
  out["verdict"] = r.result.verdict.json();
  if (!r.result.verdict.label().empty()) out["label"] = r.result.verdict.label();
  return out;
}

Json comparison_json(const Comparison& c) {
  Json out = {{"model", c.model}, {"log", c.log}, {"verdict", c.verdict.json()}};
  if (!c.verdict.label().empty()) out["label"] = c.verdict.label();
  for (const Comparison::Line& line : c.lines)
    out["measures"][line.measure] = {{"value", line.its},
                                     {"difference", line.difference.mean},
                                     {"interval_95", {line.difference.low, line.difference.high}},
                                     {"only_this_right", line.difference.only_a},
                                     {"only_the_other_right", line.difference.only_b},
                                     {"mcnemar_p", line.difference.mcnemar_p}};
  return out;
}

std::string anew(int64_t every) {
  return every > 0 ? fmt::format(", made anew every {} tokens", every) : "";
}

std::string error_text(double error) {
  return std::isfinite(error) ? fmt::format(" +- {:.4f}", error) : std::string();
}

// "LIMITED ..." where not all items were asked; behind every figure.
std::string limit_mark(const BenchmarkItems& items) {
  return limited(items) ? fmt::format("  LIMITED to {} of {} items", items.items.size(), items.all)
                        : "";
}

}  // namespace

Json report_json(const BenchmarkReport& r, const std::optional<Comparison>& against) {
  Json out = head_json(r);
  for (const Measure& measure : r.result.measures) {
    const Parts parts = parts_of(r, measure);
    Json& entry = out["measures"][measure.name] = estimate_json(whole(measure, parts));
    if (parts.names.empty()) continue;
    entry["macro"] = number(parts.macro());
    for (size_t i = 0; i < parts.names.size(); ++i) {
      entry["parts"][parts.names[i]] = estimate_json(parts.estimates[i]);
      entry["parts"][parts.names[i]]["items"] = parts.sizes[i];
    }
  }
  out["chance"] = r.items.chance;
  out["cut_items"] = r.result.cut;
  if (r.task.definition.type == "generate") {
    double tokens = 0;
    for (const Json& result : r.result.results)
      tokens += result.value("tokens", 0.0) + result.value("second_tokens", 0.0);
    out["tokens_written_per_item"] = tokens / double(r.result.results.size());
  }
  const int64_t scored = int64_t(r.items.items.size()) - r.result.before;
  out["scored_before"] = r.result.before;
  out["seconds"] = r.result.seconds;
  if (scored > 0) out["items_per_second"] = number(double(scored) / r.result.seconds);
  if (against) out["against"] = comparison_json(*against);
  return out;
}

std::string report_text(const BenchmarkReport& r, const std::optional<Comparison>& against) {
  const BenchmarkDefinition& d = r.task.definition;
  const std::string mark =
      r.result.verdict.mark() + limit_mark(r.items) + (r.other_data ? "  OTHER DATA" : "");
  std::string out =
      r.model + (r.latents     ? ", with its latents behind every context" + anew(r.latents_every)
                 : r.augmented ? ", its base, without latents"
                               : "");
  out += fmt::format("\ntask {} ({}): {} of {} items{}, {} solved examples in front\n", d.name,
                     d.mirrors, r.items.items.size(), r.items.all,
                     d.split.empty() ? "" : " of the " + d.split + " split", r.items.shots);
  if (r.other_data) out += fmt::format("OTHER DATA: {}\n", r.items.data_file);
  size_t width = 12;
  for (const Measure& m : r.result.measures) width = std::max(width, m.name.size());
  for (const Measure& measure : r.result.measures) {
    const Parts parts = parts_of(r, measure);
    const MeanEstimate e = whole(measure, parts);
    out += fmt::format(
        "{:<{}}  {:.4f}{}{}{}\n", measure.name, width, e.mean, error_text(e.standard_error),
        measure.perplexity ? "" : fmt::format("  (chance {:.4f})", r.items.chance), mark);
    if (!parts.names.empty())
      out += fmt::format("{:<{}}  {:.4f}  (mean over {} parts){}\n", "  macro", width,
                         parts.macro(), parts.names.size(), mark);
  }
  if (r.result.cut > 0)
    out += fmt::format("{} items were longer than the model reads, and lost their beginning\n",
                       r.result.cut);
  const int64_t scored = int64_t(r.items.items.size()) - r.result.before;
  out += fmt::format(
      "{} items in {:.1f} s{}\n", scored, r.result.seconds,
      r.result.before > 0 ? fmt::format("; {} had been scored before", r.result.before) : "");
  if (!against) return out;
  out += fmt::format("against {}{}\n", against->model, against->verdict.mark());
  for (const Comparison::Line& line : against->lines)
    out += fmt::format(
        "{:<{}}  {:+.4f}  95 % {:+.4f} to {:+.4f}; {:.4f}{} and {:.4f}{}; right alone: {} and {} "
        "items, McNemar's p {:.3g}\n",
        line.measure, width, line.difference.mean, line.difference.low, line.difference.high,
        line.mine, mark, line.its, against->verdict.mark() + limit_mark(r.items),
        line.difference.only_a, line.difference.only_b, line.difference.mcnemar_p);
  return out;
}

std::string sample_log(const BenchmarkReport& r) {
  std::string out = json_text_replacing(head_json(r)) + "\n";
  for (size_t i = 0; i < r.items.items.size(); ++i) {
    const BenchmarkItem& item = r.items.items[i];
    Json line = {{"item", item.number}};
    if (!item.reference.empty()) line["reference"] = item.reference;
    if (!item.group.empty()) line["part"] = item.group;
    line["contexts"] = item.contexts;
    if (!item.continuations.empty()) line["continuations"] = item.continuations;
    if (r.task.definition.type == "choice")
      line["gold"] = item.gold;
    else
      line["target"] = item.target;
    for (const auto& [key, value] : r.result.results[i].items()) line[key] = value;
    if (r.task.definition.type == "generate")
      line["answers"] = answers_in(r.task, r.result.results[i]);
    for (const Measure& measure : r.result.measures)
      line["measures"][measure.name] = measure.values[i];
    out += json_text_replacing(line) + "\n";
  }
  return out;
}

OtherResult read_sample_log(const std::string& log, const DefinitionFile& task,
                            const BenchmarkItems& items) {
  const std::string text = read_file(log);
  const auto refuse = [&](const std::string& what) {
    throw ConfigError(fmt::format("--against {}: {}", log, what));
  };
  OtherResult out{"", log, {}, {}};
  const Json mine = identity_json(task, items);
  for (size_t at = 0, number = 1; at < text.size(); ++number) {
    const size_t end = std::min(text.find('\n', at), text.size());
    const Json line = parse_json_or_discard(std::string_view(text).substr(at, end - at));
    at = end + 1;
    if (!line.is_object()) refuse(fmt::format("line {} is no JSON object", number));
    if (number > 1) {
      if (!line.contains("item") || !line.contains("measures"))
        refuse(fmt::format("line {} is no item of a log that --log-samples wrote", number));
      out.measures[line.at("item").get<int64_t>()] = line.at("measures");
      continue;
    }
    for (const auto& [key, value] : mine.items())
      if (line.value(key, Json()) != value)
        refuse(
            fmt::format("its {} is {}, this evaluation's is {}: two models are compared on the "
                        "same items of the same task",
                        key, json_text(line.value(key, Json())), json_text(value)));
    out.model = line.value("model", "") + (line.value("latents", false) ? ", with latents" : "") +
                anew(line.value("latents_every", int64_t(0)));
    out.verdict = Verdict::of_file(line);
  }
  if (out.measures.size() != items.items.size())
    refuse(fmt::format("it holds {} items, this evaluation has {}", out.measures.size(),
                       items.items.size()));
  return out;
}

Comparison compared(const BenchmarkReport& r, const OtherResult& other) {
  Comparison out{other.model, other.log, other.verdict, {}};
  for (const Measure& measure : r.result.measures) {
    if (measure.perplexity) continue;
    std::vector<double> its;
    for (const BenchmarkItem& item : r.items.items) {
      const auto found = other.measures.find(item.number);
      if (found == other.measures.end() || !found->second.contains(measure.name))
        throw ConfigError(fmt::format("--against {}: it has no {} of item {}", other.log,
                                      measure.name, item.number));
      its.push_back(found->second.at(measure.name).get<double>());
    }
    out.lines.push_back({measure.name, mean_estimate(measure.values).mean, mean_estimate(its).mean,
                         paired_difference(measure.values, its)});
  }
  return out;
}

}  // namespace reverie
