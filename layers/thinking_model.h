#pragma once
/// Models that read their own last state at one token of the vocabulary.

#include <cstdint>
#include <optional>

#include "layers/language_model.h"

namespace reverie {

/// The interface of such a model beside LanguageModel ("coconut").
class ThinkingModel {
 public:
  virtual ~ThinkingModel() = default;
  virtual int32_t thought_token() const = 0;
};

/// The token at which the model thinks; nullopt: it has none.
inline std::optional<int32_t> thought_token_of(const LanguageModel& model) {
  const auto* thinking = dynamic_cast<const ThinkingModel*>(&model);
  return thinking ? std::optional(thinking->thought_token()) : std::nullopt;
}

}  // namespace reverie
