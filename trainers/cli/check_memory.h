#pragma once
/// `reverie check memory RUN`.

#include <CLI/CLI.hpp>

namespace reverie {

void add_memory_check(CLI::App& check);

}  // namespace reverie
