#include "datasets/bin_files.h"

#include <algorithm>
#include <filesystem>

#include "core/error.h"

namespace reverie {

namespace {

constexpr std::string_view kDigits = "0123456789";

// "fineweb_train" of fineweb_train_000001.bin, and of fineweb_train.bin; "" of other names.
std::string_view without_shard(std::string_view name) {
  if (!name.ends_with(".bin")) return "";
  name.remove_suffix(4);
  const size_t number = name.find_last_not_of(kDigits) + 1;
  if (number < name.size() && number > 0 && name[number - 1] == '_')
    name = name.substr(0, number - 1);
  return name;
}

bool is_shard(std::string_view name) {
  return without_shard(name).size() + 4 < name.size();
}

// The shard's number without leading zeros.
std::string_view number_of_shard(std::string_view name) {
  std::string_view number = name.substr(without_shard(name).size() + 1);
  number.remove_suffix(4);
  while (number.size() > 1 && number.front() == '0') number.remove_prefix(1);
  return number;
}

}  // namespace

bool is_bin_file(std::string_view name, std::string_view part) {
  const std::string_view whole = without_shard(name);
  return whole == part || (whole.ends_with(part) && whole.size() > part.size() &&
                           whole[whole.size() - part.size() - 1] == '_');
}

std::vector<std::string> find_bin_files(const std::string& directory, const std::string& part) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory)) {
    std::string name = entry.path().filename().string();
    if (is_bin_file(name, part)) names.push_back(std::move(name));
  }
  const auto key = [](const std::string& name) {
    const std::string_view number = is_shard(name) ? number_of_shard(name) : "";
    return std::pair(number.size(), number);  // as numbers
  };
  std::sort(names.begin(), names.end(), [&](const std::string& a, const std::string& b) {
    return key(a) != key(b) ? key(a) < key(b) : a < b;
  });
  bool shards = !names.empty();
  for (size_t i = 0; i < names.size(); ++i)
    shards = shards && is_shard(names[i]) && without_shard(names[i]) == without_shard(names[0]) &&
             (i == 0 || key(names[i]) != key(names[i - 1]));
  require(
      shards || names.size() == 1,
      "the data directory {} has no dataset.json, and {} files that end in {}.bin, or are "
      "numbered as its shards: wanted exactly one, {}.bin or NAME_{}.bin, or only shards of one "
      "name, NAME_{}_000001.bin; prepare it with reverie prepare",
      directory, names.size(), part, part, part, part);
  for (std::string& name : names) name = (std::filesystem::path(directory) / name).string();
  return names;
}

}  // namespace reverie
