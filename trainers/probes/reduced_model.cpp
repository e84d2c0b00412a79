#include "trainers/probes/reduced_model.h"

#include <algorithm>
#include <map>

#include "core/changed_component.h"
#include "core/error.h"
#include "core/idle_fields.h"
#include "layers/language_model.h"

namespace reverie {
namespace {

constexpr int64_t kHeadFeatures = 8, kMostHeads = 8, kFewHeads = 4, kFewLayers = 3, kMostLayers = 6,
                  kFewTokens = 64;

// Integer options by name, and where they stand.
class IntegerOptions final : public IdleFields {
 public:
  explicit IntegerOptions(Fieldset& options) { options.fields(*this); }
  int64_t* find(const std::string& key) {
    const auto at = places_.find(key);
    return at == places_.end() ? nullptr : at->second;
  }
  int64_t value_or(const std::string& key, int64_t otherwise) {
    const int64_t* at = find(key);
    return at ? *at : otherwise;
  }
  void limit(const std::string& key, int64_t most) {
    if (int64_t* at = find(key)) *at = std::min(*at, most);
  }

  void integer(std::string_view key, int64_t& value, Range<int64_t>, std::string_view) override {
    places_[std::string(key)] = &value;
  }
  void integer_or_auto(std::string_view key, std::optional<int64_t>& value, Range<int64_t>,
                       std::string_view) override {
    if (value) places_[std::string(key)] = &*value;
  }

 private:
  std::map<std::string, int64_t*> places_;
};

// A window that only some layers have needs all kinds of them.
void reduce_depth(IntegerOptions& sizes) {
  const bool kinds = sizes.value_or("sliding_window", 0) > 0;
  const int64_t period = sizes.value_or("global_every", kinds ? kMostLayers : kFewLayers);
  sizes.limit("n_layer", std::clamp(period, kFewLayers, kMostLayers));
  // A published model keeps its table.
  if (!sizes.find("new_tokens")) sizes.limit("vocab_size", kFewTokens);
}

void reduce_width(IntegerOptions& sizes) {
  int64_t *width = sizes.find("n_embd"), *heads = sizes.find("n_head");
  if (!width || !heads) return;
  const int64_t groups = sizes.value_or("n_kv_head", *heads);
  int64_t fewer = *heads, fewer_groups = groups;
  if (*heads > kMostHeads) {
    fewer = kFewHeads;
    fewer_groups = groups == *heads ? fewer : groups == 1 ? 1 : 2;
  }
  if (*width <= fewer * kHeadFeatures) return;
  *width = fewer * kHeadFeatures;
  *heads = fewer;
  if (int64_t* at = sizes.find("n_kv_head")) *at = fewer_groups;
  sizes.limit("head_dim", kHeadFeatures);
  sizes.limit("n_hidden", 4 * *width);
}

bool can_be_made(const Component& model) {
  Generator random(1);
  try {
    ModelRegistry::instance().make(model, Build{random, DType::f32});
    return true;
  } catch (const UserError&) {
    return false;
  }
}

}  // namespace

Component reduced_model(const Component& model) {
  for (const bool width : {true, false}) {
    try {
      const Component smaller =
          changed_component(ModelRegistry::instance(), model, [&](Fieldset& options) {
            IntegerOptions sizes(options);
            reduce_depth(sizes);
            if (width) reduce_width(sizes);
          });
      if (can_be_made(smaller)) return smaller;
    } catch (const ConfigError&) {
      continue;  // sizes that this memory cannot have
    }
  }
  return model;
}

}  // namespace reverie
