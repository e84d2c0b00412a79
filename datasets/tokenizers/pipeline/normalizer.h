#pragma once
/// Normalizers: changes to a text before a tokenizer looks for tokens.

#include <functional>
#include <string>
#include <vector>

#include "datasets/tokenizers/pipeline/json_at.h"

namespace reverie {

class Normalizer {
 public:
  Normalizer() = default;
  /// tokenizer.json's terms: null, Sequence, Replace, Prepend, NFC. DataError naming the path of
  /// what is not among them.
  explicit Normalizer(const JsonAt& description);

  bool empty() const { return steps_.empty(); }
  /// Whether parts of a text, cut before a space, are changed as the whole is.
  bool local() const { return local_; }
  void apply(std::string& text) const {  ///< UTF-8
    for (const auto& step : steps_) step(text);
  }

 private:
  void add(const JsonAt& description, int depth);

  std::vector<std::function<void(std::string&)>> steps_;
  bool local_ = true;
};

}  // namespace reverie
