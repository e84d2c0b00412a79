#pragma once
// What every benchmark program does around its measuring: it reads its arguments, measures, prints
// one JSON object, and says in its exit status what went wrong (1 failed, 2 usage).

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <cstdio>
#include <exception>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/json.h"

namespace reverie::benchmark {

using Json = nlohmann::ordered_json;

// Runs `measure()`, which returns the JSON object to print, once `app` has read the arguments.
template <class Measure>
int run_program(CLI::App& app, int count, char** arguments, const Measure& measure) {
  try {
    app.parse(count, arguments);
    fmt::print("{}\n", json_text(measure()));
    return 0;
  } catch (const CLI::ParseError& e) {
    return app.exit(e) == 0 ? 0 : 2;
  } catch (const UserError& e) {
    fmt::print(stderr, "{}: {}\n", app.get_name(), e.what());
    return 2;
  } catch (const std::exception& e) {
    fmt::print(stderr, "{}: {}\n", app.get_name(), e.what());
    return 1;
  }
}

}  // namespace reverie::benchmark
