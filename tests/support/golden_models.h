#pragma once
// The models that transformers wrote (tests/golden/make/make_hf_golden.py), and which families they are of.

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "core/files.h"
#include "core/json.h"
#include "layers/families/family.h"
#include "support/tests_directory.h"

namespace reverie::testing {

inline std::string golden_model(const std::string& name) {
  return testing::test_directory() + "/golden/pretrained/" + name;
}

// Every case, by name.
inline std::vector<std::string> golden_models() {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(golden_model("")))
    if (entry.is_directory()) names.push_back(entry.path().filename());
  std::sort(names.begin(), names.end());
  return names;
}

// Cases of one family.
inline std::vector<std::string> golden_models_of(const Family& family) {
  std::vector<std::string> names;
  for (const std::string& name : golden_models()) {
    const Json config = parse_json(read_file(golden_model(name) + "/config.json"));
    if (family_of_model_type(config.at("model_type")) == &family) names.push_back(name);
  }
  return names;
}

inline std::vector<std::string> family_types() {
  std::vector<std::string> types;
  for (const Family* f : families()) types.push_back(f->names().type);
  return types;
}

}  // namespace reverie::testing
