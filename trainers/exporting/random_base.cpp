#include "trainers/exporting/random_base.h"

#include <filesystem>

#include "core/files.h"
#include "core/log.h"
#include "layers/language_model.h"
#include "layers/model_options.h"
#include "trainers/exporting/hugging_face.h"

namespace reverie {

void write_random_base(const Json& model, const std::string& directory) {
  namespace fs = std::filesystem;
  if (fs::exists(directory)) return;
  constexpr int64_t kVocabulary = 65;
  const Component component = with_vocabulary_of_data(
      resolve_component(ModelRegistry::instance(), Config(model, "$.model")), kVocabulary);
  Generator random(1);
  const auto made = ModelRegistry::instance().make(component, Build{random});
  const std::string making = directory + ".making";
  fs::remove_all(making);
  fs::create_directories(fs::path(directory).parent_path());
  export_hugging_face(*made, component, nullptr, making);
  rename_durably(making, directory);
  log_info("{}: a base with random weights, in place of the published one", directory);
}

}  // namespace reverie
