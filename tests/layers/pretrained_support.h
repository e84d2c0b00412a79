#pragma once
// Model directories for tests: the golden ones, and copies of them to change or damage.

#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "layers/pretrained/load.h"
#include "support/temporary_directory.h"
#include "support/tests_directory.h"

namespace reverie::testing {

inline std::string golden(const std::string& name) {
  return testing::test_directory() + "/golden/pretrained/" + name;
}

inline void write(const std::string& file, const std::string& bytes) {
  std::ofstream(file, std::ios::binary) << bytes;
}

// A copy of a golden directory, without what is expected of it.
class ModelCopy {
 public:
  explicit ModelCopy(const std::string& name) {
    for (const auto& entry : std::filesystem::directory_iterator(golden(name)))
      if (entry.path().filename() != "expected.safetensors")
        std::filesystem::copy(entry.path(), path());
  }
  const std::string& path() const { return directory_.path(); }
  std::string operator/(const std::string& name) const { return directory_ / name; }
  // Merges `patch` into config.json; null removes.
  void patch(const Json& patch) const {
    Json config = parse_json(read_file(*this / "config.json"));
    config.merge_patch(patch);
    write(*this / "config.json", json_text(config));
  }
  // Changes the tensors of model.safetensors.
  void change(const std::function<void(NamedTensors&)>& f) const {
    NamedTensors tensors;
    for (const auto& [name, t] : read_safetensors(*this / "model.safetensors").tensors)
      tensors.emplace_back(name, t.clone());
    f(tensors);
    write_safetensors(*this / "model.safetensors", tensors);
  }

 private:
  TemporaryDirectory directory_;
};

// What load_pretrained says against a path; "loaded" when it says nothing.
inline std::string refusal(const std::string& path, const PretrainedOptions& options = {}) {
  try {
    load_pretrained(path, options);
  } catch (const UserError& e) {
    return e.what();
  }
  return "loaded";
}

inline SafetensorsFile expected(const std::string& name) {
  return read_safetensors(golden(name) + "/expected.safetensors");
}
inline PretrainedOptions options(DType dtype, bool frozen = true) {
  return {.dtype = dtype, .device = {}, .frozen = frozen, .block_size = {}};
}
inline Tensor logits_of(const LoadedModel& loaded, const Tensor& tokens) {
  NoGrad guard;
  return loaded.model->logits(tokens).tensor();
}

}  // namespace reverie::testing
