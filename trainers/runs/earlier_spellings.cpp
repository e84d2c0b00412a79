#include "trainers/runs/earlier_spellings.h"

#include <nlohmann/json.hpp>

#include "core/error.h"

namespace reverie {

Json in_current_spelling(Json experiment) {
  if (!experiment.is_object()) return experiment;
  const auto found = experiment.find("optimizer");
  if (found == experiment.end() || !found->is_object()) return experiment;
  Json optimizer = {{"type", "adamw"}};
  Json schedule = found->value("schedule", Json::object());
  const bool cosine = schedule.is_object() && schedule.value("type", "cosine") == "cosine";
  for (const auto& [key, value] : found->items()) {
    if (key != "minimum_learning_rate" && key != "warmup_steps" && key != "decay_steps") {
      optimizer[key] = value;
      continue;
    }
    if (!cosine || schedule.contains(key))
      throw ConfigError(fmt::format(
          "$.optimizer.{0} belongs to the schedule: write it as $.optimizer.schedule.{0}", key));
    schedule[key] = value;
  }
  if (cosine && !schedule.empty()) {
    Json named = {{"type", "cosine"}};
    named.update(schedule);
    optimizer["schedule"] = named;
  }
  *found = optimizer;
  return experiment;
}

Json optimizer_in_first_spelling(const Json& optimizer) {
  const Json& schedule = optimizer.at("schedule");
  if (optimizer.at("type") != "adamw" || schedule.at("type") != "cosine") return optimizer;
  Json first;
  for (const char* key : {"learning_rate", "minimum_learning_rate", "warmup_steps", "decay_steps",
                          "beta1", "beta2", "eps", "weight_decay", "gradient_clip"})
    first[key] = schedule.contains(key) ? schedule.at(key) : optimizer.at(key);
  return first;
}

}  // namespace reverie
