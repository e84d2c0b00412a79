#pragma once
// Definitions of tables as one JSON object: the heading's keys beside those of the report.

#include <nlohmann/json.hpp>
#include <string>

#include "core/config.h"
#include "trainers/tables/definition.h"

namespace reverie::testing {

template <class T>
T taken(Json& from, const char* key, T otherwise) {
  const T value = from.value(key, otherwise);
  from.erase(key);
  return value;
}
inline TableHeading take_heading(Json& definition) {
  TableHeading heading;
  heading.title = taken<std::string>(definition, "title", "");
  heading.preset = taken<std::string>(definition, "preset", "");
  heading.command = taken<std::string>(definition, "command", "");
  heading.planned_runs = taken<int64_t>(definition, "planned_runs", 0);
  return heading;
}
template <class Report>
Report read_report(const Json& json) {
  Report report;
  read_config(Config(json, "$.report"), report);
  return report;
}

}  // namespace reverie::testing
