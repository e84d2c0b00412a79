#pragma once
// Registered memory modules and sources of latents, for tests of all of them: nobody lists them.

#include <functional>
#include <nlohmann/json.hpp>
#include <ostream>
#include <string>
#include <vector>

#include "core/error.h"
#include "layers/coprocessor/augmented_model.h"
#include "layers/memory/memory_module.h"
#include "support/tests_directory.h"

namespace reverie::testing {

struct RegisteredCase {
  std::string name;  // "imm_slots_carry_state"
  Json component;    // {"type": "imm", "mode": "slots", "carry_state": true, ...}
};
inline void PrintTo(const RegisteredCase& c, std::ostream* out) {
  *out << c.component.dump();
}

// Options that tests of all components build them with: small sizes, and what has no default. THE
// place for a component that its defaults do not build.
inline Json options_in_tests(const std::string& type) {
  static const Json known = {
      {"imm", {{"low_rank_dim", 3}, {"num_slots", 3}, {"segment_length", 4}, {"chunk_length", 4}}},
      {"delta_rule", {{"heads", 2}, {"chunk_length", 4}}},
      {"attention_cache", {{"length", 5}, {"heads", 2}}},
      {"gated_slots", {{"num_slots", 4}}},
      {"recurrent_tokens", {{"count", 3}}},
      {"coprocessor", {{"count", 3}, {"rank", 2}, {"alpha", 4}}},
      {"soft_embeddings", {{"count", 3}}},
      {"gist", {{"count", 3}}},
      {"icae", {{"count", 3}, {"rank", 2}, {"alpha", 2}}},
      {"continuous_thoughts", {{"count", 2}}},
      {"several",
       {{"sources", Json::array({{{"type", "coprocessor"}, {"count", 2}},
                                 {{"type", "soft_embeddings"}, {"count", 1}}})}}}};
  return known.value(type, Json::object());
}

// Sources that have nothing of their own to train.
inline bool trains_its_base(const Json& latents) {
  return latents.at("type") == "continuous_thoughts";
}

// Modes that read the future by their definition; every other one must be causal.
inline bool leaks_by_definition(const Json& memory) {
  const std::string mode = memory.value("mode", "");
  return mode == "as_published" || (memory.at("type") == "imm" && mode == "full_rank");
}

inline Json model_with_memory(const Json& memory) {
  return {{"type", "llama"}, {"vocab_size", 13}, {"block_size", 19}, {"n_layer", 2},
          {"n_head", 2},     {"n_embd", 8},      {"memory", memory}};
}
inline Json model_with_latents(const Json& latents, const std::string& base = "llama") {
  return {{"type", "augmented"},
          {"base", testing::test_directory() + "/golden/pretrained/" + base},
          {"latents", latents},
          {"block_size", 24},
          {"groups", 4},
          {"ahead", 5},
          {"train_base", trains_its_base(latents)}};
}

inline std::unique_ptr<LanguageModel> build_model(const Json& config, DType dtype, uint64_t seed) {
  Generator random(seed);
  const ModelRegistry& models = ModelRegistry::instance();
  return models.make(resolve_component(models, Config(config, "$.model")), Build{random, dtype});
}

// Why this model cannot be built; "" where it can.
inline std::string build_error(const Json& config) {
  try {
    build_model(config, DType::f32, 1);
  } catch (const UserError& e) {
    return e.what();
  }
  return "";
}

// Every component of a registry but the tests' own ("test_..."), as it is and with every choice of
// its text options and of its booleans: one at a time or in all combinations. Choices that cannot
// be built are left out, but not a component as it is: its tests then fail with the reason.
inline std::vector<RegisteredCase> registered_cases(const RegistryBase& registry,
                                                    const std::function<Json(const Json&)>& model,
                                                    bool combined) {
  std::vector<RegisteredCase> all;
  for (const std::string& type : registry.names()) {
    if (type.starts_with("test_")) continue;
    RegisteredCase plain{type, {{"type", type}}};
    plain.component.update(options_in_tests(type));
    std::vector<RegisteredCase> cases = {plain};
    const Json schema = config_schema(*registry.entry(type, "$").new_fieldset());
    for (const auto& [key, field] : schema.at("properties").items()) {
      const bool truth = field.value("type", Json()) == "boolean";
      const Json values = truth ? Json::array({false, true}) : field.value("enum", Json::array());
      const size_t before = combined ? cases.size() : 1;
      for (const Json& value : values)
        for (size_t i = 0; i < before && value != field.value("default", Json()); ++i) {
          RegisteredCase more = cases[i];
          more.component[key] = value;
          more.name += "_" + (truth ? key : value.get<std::string>());
          cases.push_back(more);
        }
    }
    for (const RegisteredCase& c : cases)
      if (c.name == type || build_error(model(c.component)).empty()) all.push_back(c);
  }
  return all;
}

inline std::vector<RegisteredCase> registered_memories() {
  return registered_cases(MemoryRegistry::instance(), model_with_memory, true);
}
inline std::vector<RegisteredCase> registered_sources() {
  return registered_cases(
      LatentRegistry::instance(), [](const Json& latents) { return model_with_latents(latents); },
      false);
}

// The message for a component that its defaults do not build; "" where they do.
inline std::string missing_options(const RegisteredCase& c, const Json& model) {
  const std::string why = build_error(model);
  return why.empty() ? ""
                     : "\"" + c.component.at("type").get<std::string>() +
                           "\" cannot be built for the tests of every registered component. Give "
                           "it options in tests/support/registered_components.h: " +
                           why;
}

// Parameters that begin at zero hide what lies behind them: values for those.
inline void fill_zero_parameters(Module& module, uint64_t seed = 5) {
  Generator random(seed);
  for (const auto& [name, parameter] : module.parameters()) {
    Tensor value = parameter.tensor();
    bool zero = true;
    for (const double x : value.to_vector()) zero = zero && x == 0;
    if (zero)
      value.copy_from(random.normal(value.shape(), 0.1, 0.05, DType::f64).to(value.dtype()));
  }
}

}  // namespace reverie::testing
