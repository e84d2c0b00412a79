#pragma once
// A small model in the files of a published one, with a vocabulary of byte pairs.

#include <memory>
#include <string>

#include "datasets/tokenizers/tokenizer.h"
#include "support/tests_directory.h"
#include "support/tiny_models.h"
#include "trainers/exporting/gguf.h"
#include "trainers/exporting/hugging_face.h"

namespace reverie::testing {

inline std::shared_ptr<const Tokenizer> published_vocabulary() {
  return load_tokenizer_for(test_directory() + "/golden/tokenizers/smollm.gguf");
}

// Writes it to `path`: a .gguf file, or else a Hugging Face directory. `spare` rows of its
// vocabulary are of no token.
inline void write_published_model(const std::string& path, int64_t spare = 0, bool tied = true) {
  const auto tokenizer = published_vocabulary();
  const std::string json = fmt::format(
      R"({{"type": "llama", "vocab_size": {}, "block_size": 128, "n_layer": 1, "n_head": 2,
           "n_embd": 16, "n_hidden": 24, "tie_weights": {}}})",
      tokenizer->vocabulary_size() + spare, tied);
  const Component component = model_component(json);
  Generator random(5);
  const auto model = ModelRegistry::instance().make(component, Build{random, DType::f32});
  if (path.ends_with(".gguf"))
    export_gguf(*model, component, tokenizer.get(), GgufTensorType::f32, path);
  else
    export_hugging_face(*model, component, tokenizer.get(), path);
}

}  // namespace reverie::testing
