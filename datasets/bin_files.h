#pragma once
/// Names of token files that nanoGPT and llm.c write.

#include <string>
#include <string_view>
#include <vector>

namespace reverie {

/// Whether a file of this name holds a part ("train", "val"): train.bin, NAME_train.bin, or a shard of
/// one, train_000001.bin, NAME_train_000001.bin.
bool is_bin_file(std::string_view name, std::string_view part);

/// The paths of the one file in `directory` that holds the part, or of its shards by their numbers.
/// UserError where there is none, where there are several that are no shards, and where shards are of
/// different names or not all numbered apart.
std::vector<std::string> find_bin_files(const std::string& directory, const std::string& part);

}  // namespace reverie
