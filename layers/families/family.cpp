#include "layers/families/family.h"

#include <algorithm>
#include <map>
#include <nlohmann/json.hpp>

#include "core/error.h"

namespace reverie {
namespace {

std::map<std::string, std::unique_ptr<Family>>& registry() {
  static std::map<std::string, std::unique_ptr<Family>> all;
  return all;
}

template <class Is>
const Family* first_that(const Is& is) {
  for (const auto& [type, family] : registry())
    if (is(*family)) return family.get();
  return nullptr;
}

std::string listed(const std::vector<std::string>& names) {
  std::string text;
  for (size_t i = 0; i < names.size(); ++i)
    text += (i == 0 ? "" : i + 1 == names.size() ? " and " : ", ") + names[i];
  return text;
}

}  // namespace

Json Family::from_gguf(GgufKeys&) const {
  throw InternalError(fmt::format("the family \"{}\" reads no GGUF files", names_.type));
}

void keep_family(std::unique_ptr<Family> family,
                 std::function<TransformerShape(const Fieldset&)> shape) {
  family->shape_ = std::move(shape);
  registry()[family->names().type] = std::move(family);
}

std::vector<const Family*> families() {
  std::vector<const Family*> all;
  for (const auto& [type, family] : registry()) all.push_back(family.get());
  return all;
}

const Family* family_of_type(const std::string& type) {
  return first_that([&](const Family& f) { return f.names().type == type; });
}
const Family* family_of_model_type(const std::string& model_type) {
  return first_that([&](const Family& f) {
    const std::vector<std::string>& types = f.names().model_types;
    return std::find(types.begin(), types.end(), model_type) != types.end();
  });
}
const Family* family_of_architecture(const std::string& architecture) {
  return first_that(
      [&](const Family& f) { return f.reads_gguf() && f.names().architecture == architecture; });
}

std::string known_types() {
  std::vector<std::string> names;
  for (const Family* f : families()) names.push_back(f->names().type);
  return listed(names);
}
std::string known_model_types() {
  std::vector<std::string> names;
  for (const Family* f : families())
    names.insert(names.end(), f->names().model_types.begin(), f->names().model_types.end());
  return listed(names);
}
std::string known_architectures() {
  std::vector<std::string> names;
  for (const Family* f : families())
    if (f->reads_gguf()) names.push_back(f->names().architecture);
  return listed(names);
}

}  // namespace reverie
