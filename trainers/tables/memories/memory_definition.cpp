#include "trainers/tables/memories/memory_definition.h"

#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/changed_component.h"
#include "core/error.h"
#include "core/idle_fields.h"
#include "datasets/tasks/generated_task.h"
#include "layers/language_model.h"
#include "layers/memory/memory_module.h"
#include "layers/model_options.h"

namespace reverie {
namespace {

constexpr int64_t kMarks = 3;  // of documents and windows, and padding

void require_task_fits(const ExperimentOptions& e, const std::string& where, bool is_oracle) {
  const auto& task = component_options<TaskOptions>(e.data.generated);
  if (*std::max_element(task.distances.begin(), task.distances.end()) < 1)
    throw ConfigError(fmt::format(
        "{}: $.data.generated.distances has no distance of 1 window or more, so that no answer "
        "needs a memory: add one",
        where));
  const int64_t block = configured_block_size(e.model).value_or(0),
                wanted = is_oracle ? task.window * task.windows : task.window;
  if (block != wanted)
    throw ConfigError(fmt::format(
        "{}: $.model.block_size is {}, wanted {}: {}", where, block, wanted,
        is_oracle ? "the oracle sees a whole document, which is $.model.block_size times "
                    "$.train.windows of the task"
                  : "one window of the task ($.data.generated.window)"));
  const int64_t words = kMarks +
                        int64_t(TaskRegistry::instance().make(e.data.generated)->words().size()),
                vocabulary = configured_vocabulary(e.model).value_or(0);
  if (vocabulary > 0 && vocabulary < words)
    throw ConfigError(fmt::format(
        "{}: the task has {} words, and $.model.vocab_size is {}: leave it out (0: as many as the "
        "data has), or ask for fewer words in $.data.generated",
        where, words, vocabulary));
}

std::unique_ptr<LanguageModel> model_of(const Component& model) {
  Generator random(1);
  return ModelRegistry::instance().make(model, Build{random});
}

// Turns the option "carry_state" on in the options of a memory module, where it has that option.
class CarryState final : public IdleFields {
 public:
  bool turned_on = false;
  void boolean(std::string_view key, bool& value, std::string_view) override {
    if (key != "carry_state" || value) return;
    value = true;
    turned_on = true;
  }
};

// Whether the model would carry its memory if it were told to.
bool could_carry(const Component& model, const Component& memory) {
  CarryState carry;
  try {
    const Component told = changed_component(MemoryRegistry::instance(), memory,
                                             [&](Fieldset& options) { options.fields(carry); });
    return carry.turned_on && model_of(with_memory(model, told))->carries_memory();
  } catch (const ConfigError&) {
    return false;  // a module that begins anew at every window
  }
}

}  // namespace

void MemoryPreset::fields(Fields& f) {
  TablePreset::fields(f);
  f.texts("models", models, "the models that are trained; none: all");
  f.texts("tasks", tasks, "the tasks that they are trained on; none: all");
  describe_patches(f, "task_patches", task_patches,
                   "by task: patches, merged before those of the models");
  f.object("measure", measure, "how finished runs are measured");
  model_fields(f);
}

void MemoryDefinition::fields(Fields& f) {
  TableDefinition::fields(f);
  f.object("report", report, "texts beside the table");
  model_fields(f);
  describe_patches(
      f.required(), "tasks", tasks,
      "by name: patches with \"data\" and \"model.block_size\" (one window of the task)");
  for (const std::string& task : tasks.names())
    f.rule(
        task.find_first_not_of("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_") ==
            std::string::npos,
        fmt::format("tasks: \"{}\" names files, so it may have letters, digits and _ only", task));
  f.required().text("baseline", baseline, {}, "the model without a memory");
  f.required().text("oracle", oracle, {},
                    "the model without a memory whose window holds a whole document: its "
                    "block_size is set to block_size times train.windows of the task");
  for (const auto* role : {&baseline, &oracle})
    f.rule(role->empty() || models.find(*role) != nullptr,
           fmt::format("\"{}\" is none of the models", *role));
  f.rule(baseline.empty() || baseline != oracle, "baseline and oracle are one model");
  preset_fields(f);
}

bool has_memory(const Config& experiment) {
  const Json model = experiment.json().value("model", Json());
  return model.is_object() && model.contains("memory") && !model["memory"].is_null();
}

void require_fit_for_memory_table(const ExperimentOptions& e, const std::string& where,
                                  bool is_oracle, bool may_have_memory) {
  if (!e.data.mix.empty())
    throw ConfigError(
        fmt::format("{}: $.data.mix is given: wanted $.data.generated, or one text that is read in "
                    "order",
                    where));
  if (e.data.examples.given())
    throw ConfigError(
        fmt::format("{}: $.data.examples are texts of one window each: wanted $.data.generated, or "
                    "a text that goes on",
                    where));
  if (e.data.generated.given())
    require_task_fits(e, where, is_oracle);
  else if (e.data.tokenizer != "char")
    throw ConfigError(
        fmt::format("{}: $.data.tokenizer is \"{}\", wanted \"char\": the table has bits for each "
                    "character",
                    where, e.data.tokenizer));
  const Component memory = configured_memory(e.model);
  if (!memory.given()) return;
  if (!may_have_memory)
    throw ConfigError(
        fmt::format("{}: $.model.memory is given, but baseline and oracle have none", where));
  const Component model = with_vocabulary_of_data(e.model, kMarks);
  if (!model_of(model)->carries_memory() && could_carry(model, memory))
    throw ConfigError(
        fmt::format("{}: $.model.memory carries nothing from window to window, so that there is "
                    "nothing to wipe: set \"carry_state\": true",
                    where));
}

}  // namespace reverie
