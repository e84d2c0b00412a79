#pragma once
/// The items of a benchmark as requests: contexts and continuations in text.

#include <optional>
#include <string>
#include <vector>

#include "datasets/benchmarks/definition.h"

namespace reverie {

struct BenchmarkItem {
  int64_t number = 0;     ///< its place in the data file, from 0
  std::string reference;  ///< the file's own "id" or "ID", where it has one
  std::string group;
  /// One context; or one for each choice.
  std::vector<std::string> contexts;
  /// Text behind contexts[i], or behind the only context; the delimiter is part of it.
  std::vector<std::string> continuations;
  /// The choices without the delimiter, whose lengths normalise the log-likelihoods.
  std::vector<std::string> choices;
  int64_t gold = 0;
  std::string target;

  const std::string& context(size_t choice) const {
    return contexts[contexts.size() == 1 ? 0 : choice];
  }
};

struct BenchmarkItems {
  std::vector<BenchmarkItem> items;
  int64_t all = 0;        ///< items of the file
  int64_t shots = 0;      ///< solved examples in front of each
  std::string data_file;  ///< where it was found
  std::string data_hash;  ///< of its bytes, and of the pool's where there is one
  double chance = 0;      ///< accuracy of guessing, over `items`
};

struct ItemOptions {
  std::optional<int64_t> shots = {};  ///< instead of the definition's
  int64_t limit = 0;                  ///< the first so many items; 0: all
  std::string data;                   ///< another file of items
};

/// A file of items, or of solved examples, that a task wants.
struct MissingData {
  std::string file;   ///< as the definition names it
  std::string where;  ///< "at none of these places: ...", its public address and what to run
};
/// Those that read_items() would not find, with the definition's own data and examples.
std::vector<MissingData> missing_data(const DefinitionFile& task);

/// The files that read_items() reads; `pool`: of solved examples, "" where the items are their own.
struct ItemFiles {
  std::string items, pool;
};
/// nullopt where one is not there.
std::optional<ItemFiles> find_item_files(const DefinitionFile& task, const ItemOptions& options);

/// Reads the data file and fills the templates. UserError where a file is missing: where was looked,
/// its public address and what to run. DataError with file and item where an item does not fill a
/// template, or its gold is none of the choices.
BenchmarkItems read_items(const DefinitionFile& task, const ItemOptions& options);

}  // namespace reverie
