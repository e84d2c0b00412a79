#include "trainers/benchmarks/measures.h"

#include <algorithm>
#include <cmath>
#include <nlohmann/json.hpp>

#include "datasets/utf8.h"

namespace reverie {
namespace {

// The first of the largest.
size_t likeliest(const std::vector<double>& values) {
  return size_t(std::max_element(values.begin(), values.end()) - values.begin());
}

std::vector<Measure> choice_measures(const BenchmarkItems& items,
                                     const std::vector<Json>& results) {
  std::vector<Measure> out{{"acc", {}}, {"acc_norm", {}}, {"acc_bytes", {}}};
  for (size_t i = 0; i < items.items.size(); ++i) {
    const BenchmarkItem& item = items.items[i];
    const auto nats = results[i].at("log_likelihoods").get<std::vector<double>>();
    std::vector<double> by_character, by_byte;
    for (size_t c = 0; c < nats.size(); ++c) {
      by_character.push_back(nats[c] / double(count_code_points(item.choices[c])));
      by_byte.push_back(nats[c] / double(item.choices[c].size()));
    }
    out[0].values.push_back(likeliest(nats) == size_t(item.gold));
    out[1].values.push_back(likeliest(by_character) == size_t(item.gold));
    out[2].values.push_back(likeliest(by_byte) == size_t(item.gold));
  }
  return out;
}

std::vector<Measure> likelihood_measures(const std::vector<Json>& results) {
  std::vector<Measure> out{{"perplexity", {}, true}, {"acc", {}}};
  for (const Json& result : results) {
    out[0].values.push_back(result.at("log_likelihoods").at(0).get<double>());
    out[1].values.push_back(result.at("greedy").at(0).get<bool>());
  }
  return out;
}

std::string answered_text(const Json& result) {
  return result.at(result.contains("second_text") ? "second_text" : "text").get<std::string>();
}

std::vector<Measure> answer_measures(const DefinitionFile& task, const BenchmarkItems& items,
                                     const std::vector<Json>& results) {
  const BenchmarkDefinition& d = task.definition;
  const AnswerComparison comparison(d.comparison, task.file + ": $.comparison.ignore");
  std::vector<Measure> out;
  for (const auto& [name, options] : d.answers) {
    const AnswerFinder finder(options, task.file + ": $.answers." + name);
    Measure measure{d.answers.size() == 1 ? "exact_match" : "exact_match," + name, {}};
    for (size_t i = 0; i < results.size(); ++i)
      measure.values.push_back(
          comparison.same(finder.answer_in(answered_text(results[i])), items.items[i].target));
    out.push_back(std::move(measure));
  }
  return out;
}

}  // namespace

MeanEstimate Measure::estimate() const {
  MeanEstimate e = mean_estimate(values);
  if (!perplexity) return e;
  e.mean = std::exp(-e.mean);
  e.standard_error *= e.mean;
  return e;
}

std::vector<Measure> measures_of(const DefinitionFile& task, const BenchmarkItems& items,
                                 const std::vector<Json>& results) {
  const std::string& type = task.definition.type;
  if (type == "choice") return choice_measures(items, results);
  if (type == "loglikelihood") return likelihood_measures(results);
  return answer_measures(task, items, results);
}

Json answers_in(const DefinitionFile& task, const Json& result) {
  Json out = Json::object();
  for (const auto& [name, options] : task.definition.answers)
    out[name] =
        AnswerFinder(options, task.file + ": $.answers." + name).answer_in(answered_text(result));
  return out;
}

}  // namespace reverie
