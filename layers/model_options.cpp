#include "layers/model_options.h"

#include "core/changed_component.h"
#include "core/error.h"
#include "core/idle_fields.h"
#include "layers/language_model.h"
#include "layers/memory/memory_module.h"

namespace reverie {
namespace {

// Where these options stand in a model's options; null: nowhere.
class Places final : public IdleFields {
 public:
  explicit Places(Fieldset& options) { options.fields(*this); }

  int64_t *vocabulary = nullptr, *block_size = nullptr, *new_tokens = nullptr,
          *copied_token = nullptr;
  Component* memory = nullptr;
  std::string* base = nullptr;
  bool rematerialize = false;

  void boolean(std::string_view key, bool& value, std::string_view) override {
    if (key == "rematerialize") rematerialize = value;
  }
  void integer(std::string_view key, int64_t& value, Range<int64_t>, std::string_view) override {
    if (key == "vocab_size") vocabulary = &value;
    if (key == "block_size") block_size = &value;
    if (key == "new_tokens") new_tokens = &value;
  }
  void integer_or_auto(std::string_view key, std::optional<int64_t>& value, Range<int64_t>,
                       std::string_view) override {
    if (key == "vocab_size" && value) vocabulary = &*value;
    if (key == "block_size" && value) block_size = &*value;
    if (key == "copied_token" && value) copied_token = &*value;
  }
  void path(std::string_view key, std::string& value, std::string_view) override {
    if (key == "base" || key == "path") base = &value;
  }
  void component(std::string_view key, Component& value, const RegistryBase& registry, bool,
                 std::string_view) override {
    if (key == "memory" && &registry == &MemoryRegistry::instance()) memory = &value;
  }
};

std::unique_ptr<Fieldset> copied_options(const Component& model) {
  return ModelRegistry::instance()
      .entry(model.type, model.path)
      .copy_fieldset(component_options(model));
}
std::optional<int64_t> value_at(const int64_t* place) {
  return place ? std::optional(*place) : std::nullopt;
}

}  // namespace

std::optional<int64_t> configured_vocabulary(const Component& model) {
  const auto options = copied_options(model);
  return value_at(Places(*options).vocabulary);
}
std::optional<int64_t> configured_block_size(const Component& model) {
  const auto options = copied_options(model);
  return value_at(Places(*options).block_size);
}
Component configured_memory(const Component& model) {
  const auto options = copied_options(model);
  const Places places(*options);
  return places.memory ? *places.memory : Component();
}

bool configured_rematerialize(const Component& model) {
  const auto options = copied_options(model);
  return Places(*options).rematerialize;
}

std::optional<std::string> configured_base(const Component& model) {
  const auto options = copied_options(model);
  const Places places(*options);
  return places.base && !places.base->empty() ? std::optional(*places.base) : std::nullopt;
}
Component with_base(const Component& model, const std::string& path) {
  return changed_component(ModelRegistry::instance(), model, [&](Fieldset& options) {
    const Places places(options);
    if (!places.base) throw InternalError(fmt::format("a \"{}\" model has no base", model.type));
    *places.base = path;
  });
}

bool takes_vocabulary_of_data(const Component& model) {
  return configured_vocabulary(model) == 0;
}
Component with_vocabulary_of_data(const Component& model, int64_t tokens) {
  if (!takes_vocabulary_of_data(model)) return model;
  return changed_component(ModelRegistry::instance(), model,
                           [&](Fieldset& options) { *Places(options).vocabulary = tokens; });
}
Component with_vocabulary_without_data(const Component& model) {
  constexpr int64_t kCharacters = 65;  // of a text, about
  const auto options = copied_options(model);
  const Places places(*options);
  if (!places.new_tokens) return with_vocabulary_of_data(model, kCharacters);
  const int64_t known = 1 + value_at(places.copied_token).value_or(0);
  return with_vocabulary_of_data(model, known + *places.new_tokens);
}
Component with_memory(const Component& model, const Component& memory) {
  return changed_component(ModelRegistry::instance(), model, [&](Fieldset& options) {
    const Places places(options);
    if (!places.memory)
      throw InternalError(fmt::format("a \"{}\" model has no memory option", model.type));
    *places.memory = memory;
  });
}

}  // namespace reverie
