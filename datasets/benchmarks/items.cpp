#include "datasets/benchmarks/items.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <filesystem>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/random.h"
#include "datasets/benchmarks/template.h"
#include "datasets/sources.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

std::string shell_quoted(const std::string& text) {
  return text.find_first_of(" '\"$&;()") == text.npos ? text : "\"" + text + "\"";
}

// The file `name` of a task: in $REVERIE_DATA, the cache, beside the definition, or as it stands.
// "" where it is at none of these places, which are `looked` then.
std::string look_for(const std::string& name, const DefinitionFile& task,
                     std::vector<std::string>& looked) {
  std::vector<fs::path> folders{cache_directory(), fs::path(task.file).parent_path()};
  if (const char* data = std::getenv("REVERIE_DATA"); data && *data)
    folders.insert(folders.begin(), data);
  for (const fs::path& folder : folders) {
    looked.push_back((folder / name).string());
    std::error_code ignored;
    if (fs::is_regular_file(looked.back(), ignored)) return looked.back();
  }
  return "";
}

// MissingData::where.
std::string where_and_how(const std::string& name, const DefinitionFile& task,
                          const std::vector<std::string>& looked) {
  const BenchmarkDefinition& d = task.definition;
  const bool of_pool = name == d.few_shot.pool && !d.few_shot.fetch.empty();
  std::string message = fmt::format("at none of these places:\n  {}", fmt::join(looked, "\n  "));
  const std::string place = (fs::path(cache_directory()) / name).string();
  if (!d.source.empty() && !of_pool)
    message += fmt::format("\nthey are published at {}{}", d.source,
                           d.split.empty() ? "" : fmt::format(" ({} split)", d.split));
  std::string command = of_pool ? d.few_shot.fetch : d.fetch;
  if (command.find("FILE") != command.npos)
    command = fmt::format("mkdir -p {} && {}", shell_quoted(fs::path(place).parent_path().string()),
                          command);
  for (size_t at = 0; (at = command.find("FILE", at)) != command.npos; at += place.size())
    command.replace(at, 4, shell_quoted(place));
  if (!command.empty()) message += "\nrun: `" + command + "`";
  return message;
}

std::string find_data(const std::string& name, const DefinitionFile& task) {
  std::vector<std::string> looked;
  const std::string file = look_for(name, task, looked);
  if (file.empty())
    throw UserError(
        fmt::format("the items of task '{}' are {}\nor set REVERIE_DATA to a folder that has the "
                    "file, or name it (--data FILE)",
                    task.definition.name, where_and_how(name, task, looked)));
  return file;
}

int64_t shots_of(const DefinitionFile& task, const ItemOptions& options) {
  return options.shots.value_or(task.definition.few_shot.count);
}

ItemFiles item_files(const DefinitionFile& task, const ItemOptions& options) {
  const BenchmarkDefinition& d = task.definition;
  ItemFiles files;
  files.items = options.data.empty() ? find_data(d.data, task) : options.data;
  if (shots_of(task, options) > 0 && !d.few_shot.pool.empty())
    files.pool = find_data(d.few_shot.pool, task);
  return files;
}

std::vector<Json> read_objects(const std::string& file) {
  const std::string text = read_file(file);
  std::vector<Json> out;
  const auto add = [&](Json value) {
    if (!value.is_object())
      throw DataError(fmt::format("{}: item {} is no JSON object", file, out.size()));
    out.push_back(std::move(value));
  };
  if (fs::path(file).extension() == ".json") {
    Json list = parse_json_or_discard(text);
    if (!list.is_array()) throw DataError(fmt::format("{}: wanted a JSON list of objects", file));
    for (Json& value : list) add(std::move(value));
  } else {
    for (size_t at = 0, line = 1; at < text.size(); ++line) {
      const size_t end = std::min(text.find('\n', at), text.size());
      const std::string_view row = std::string_view(text).substr(at, end - at);
      at = end + 1;
      if (stripped(row).empty()) continue;
      Json value = parse_json_or_discard(row);
      if (value.is_discarded()) throw DataError(fmt::format("{}: line {} is no JSON", file, line));
      add(std::move(value));
    }
  }
  require(!out.empty(), "{} holds no items", file);
  return out;
}

struct Templates {
  explicit Templates(const DefinitionFile& task) {
    const BenchmarkDefinition& d = task.definition;
    const auto single = [&](const std::string& text, const char* key) {
      Template made(text, fmt::format("{}: $.{}", task.file, key));
      if (made.makes_several())
        throw ConfigError(
            fmt::format("{}: $.{}: [*] makes several texts; wanted one", task.file, key));
      return made;
    };
    description = single(d.description, "description");
    prompt = Template(d.prompt, task.file + ": $.prompt");
    gold = single(d.gold, "gold");
    target = single(d.target, "target");
    group = single(d.group, "group");
    match = single(d.few_shot.match, "few_shot.match");
    example_prompt = single(d.few_shot.prompt, "few_shot.prompt");
    example_target = single(d.few_shot.target, "few_shot.target");
    for (const std::string& text : d.choices) choices.emplace_back(text, task.file + ": $.choices");
  }
  Template description, prompt, gold, target, group, match, example_prompt, example_target;
  std::vector<Template> choices;
};

// A number of the item, or of the definition ("gold": "3"), counts choices. Digits in a text of the
// item may also be a choice's own text: then both must mean the same choice.
int64_t gold_of(const Templates& t, const Json& object, const std::vector<std::string>& choices,
                int64_t count, bool of_item) {
  const std::string written = t.gold.text_of(object);
  int64_t number = -1;
  const char* end = written.data() + written.size();
  const auto [at, error] = std::from_chars(written.data(), end, number);
  const bool counts = error == std::errc() && at == end && number >= 0 && number < count;
  const auto found = int64_t(choices.size()) == count
                         ? std::find(choices.begin(), choices.end(), written)
                         : choices.end();
  const int64_t text = found == choices.end() ? -1 : found - choices.begin();
  if (counts && text >= 0 && text != number && of_item && t.gold.value_of(object).is_string())
    throw DataError(fmt::format(
        "its gold is the text '{}', which is choice {} by its text and choice {} by its "
        "number: wanted one of the two, such as a JSON number, or "
        "{{{{field | index(list of choices)}}}}",
        written, text, number));
  if (counts) return number;
  if (text < 0)
    throw DataError(
        fmt::format("its gold is '{}', which is neither a number below {} nor one of "
                    "the choices",
                    written, count));
  return text;
}

BenchmarkItem fill(const Json& object, const Templates& t, const BenchmarkDefinition& d) {
  BenchmarkItem item;
  for (const char* key : {"id", "ID"})
    if (const auto found = object.find(key); found != object.end())
      item.reference = found->is_string() ? found->get<std::string>() : json_text(*found);
  item.group = t.group.text_of(object);
  item.contexts = t.prompt.texts_of(object);
  item.target = t.target.text_of(object);
  if (d.type != "choice") {
    if (item.contexts.size() != 1) throw DataError("it has several contexts; only choices may");
    if (d.type == "loglikelihood") item.continuations = {item.target};
    return item;
  }
  for (const Template& choice : t.choices)
    for (std::string& text : choice.texts_of(object)) item.choices.push_back(std::move(text));
  const size_t count = std::max(item.contexts.size(), item.choices.size());
  if (item.contexts.size() > 1 && item.choices.size() == 1)
    item.choices = std::vector<std::string>(count, item.choices[0]);
  if (count < 2 || (item.contexts.size() > 1 && item.contexts.size() != item.choices.size()))
    throw DataError(
        fmt::format("{} contexts and {} choices: wanted one context and two choices or "
                    "more, or as many contexts",
                    item.contexts.size(), item.choices.size()));
  for (const std::string& choice : item.choices) item.continuations.push_back(d.delimiter + choice);
  item.gold = gold_of(t, object, item.choices, int64_t(count), d.gold.find("{{") != d.gold.npos);
  return item;
}

// A solved example: the question, the delimiter, the answer, the separator.
std::string solved(const BenchmarkItem& example, const BenchmarkDefinition& d) {
  const bool choice = d.type == "choice";
  return example.context(size_t(example.gold)) + d.delimiter +
         (choice ? example.choices[size_t(example.gold)] : example.target) + d.few_shot.separator;
}

// `same`: equal where an example is the item that is asked. It is the question alone where examples
// have a template of their own, whose answers may be longer than the items'.
struct Example {
  std::string match, same, text;
};

Example example_of(const Json& object, const Templates& t, const BenchmarkDefinition& d) {
  const std::string match = t.match.text_of(object);
  if (d.few_shot.prompt.empty()) {
    const std::string text = solved(fill(object, t, d), d);
    return {match, text, text};
  }
  const std::string question = t.example_prompt.text_of(object);
  return {match, question,
          question + d.delimiter + t.example_target.text_of(object) + d.few_shot.separator};
}

// The examples in front of item `number`, which is `own`: whatever file the pool comes from, and
// however often the item stands in it, it is none of them.
std::string examples_for(int64_t number, const Example& own, const std::vector<Example>& pool,
                         int64_t shots, const FewShotOptions& options) {
  const std::string& match = own.match;
  std::vector<size_t> fitting;
  for (size_t i = 0; i < pool.size(); ++i)
    if (pool[i].match == match && pool[i].same != own.same) fitting.push_back(i);
  if (int64_t(fitting.size()) < shots)
    throw DataError(
        fmt::format("{} examples were asked for, and the pool has {}{} besides the item", shots,
                    fitting.size(), match.empty() ? "" : fmt::format(" of '{}'", match)));
  if (options.pick == "random") {  // the first of a shuffled list, by the item's own draws
    Generator random(derive_seed(uint64_t(options.seed), uint64_t(number)));
    for (int64_t i = 0; i < shots; ++i)
      std::swap(fitting[size_t(i)],
                fitting[size_t(i) + random.below(uint64_t(int64_t(fitting.size()) - i))]);
  }
  std::string text;
  for (int64_t i = 0; i < shots; ++i) text += pool[fitting[size_t(i)]].text;
  return text;
}

}  // namespace

std::vector<MissingData> missing_data(const DefinitionFile& task) {
  const BenchmarkDefinition& d = task.definition;
  std::vector<std::string> names{d.data};
  if (d.few_shot.count > 0 && !d.few_shot.pool.empty()) names.push_back(d.few_shot.pool);
  std::vector<MissingData> missing;
  for (const std::string& name : names) {
    std::vector<std::string> looked;
    if (look_for(name, task, looked).empty())
      missing.push_back({name, where_and_how(name, task, looked)});
  }
  return missing;
}

std::optional<ItemFiles> find_item_files(const DefinitionFile& task, const ItemOptions& options) {
  try {
    return item_files(task, options);
  } catch (const UserError&) {
    return std::nullopt;
  }
}

BenchmarkItems read_items(const DefinitionFile& task, const ItemOptions& options) {
  const BenchmarkDefinition& d = task.definition;
  const Templates templates(task);
  const ItemFiles files = item_files(task, options);
  BenchmarkItems out;
  out.data_file = files.items;
  out.data_hash = hash_file(out.data_file);
  out.shots = shots_of(task, options);
  const std::vector<Json> objects = read_objects(out.data_file);
  out.all = int64_t(objects.size());
  const int64_t count = options.limit > 0 ? std::min(options.limit, out.all) : out.all;

  const auto filled = [&](const std::string& file, const std::vector<Json>& from, size_t i,
                          auto&& use) {
    try {
      use(from[i]);
    } catch (const DataError& e) {
      throw DataError(fmt::format("{}: item {} (from 0): {}", file, i, e.what()));
    }
  };
  std::vector<Example> pool;
  const bool own_items = files.pool.empty();
  if (out.shots > 0) {
    const std::string file = own_items ? out.data_file : files.pool;
    const std::vector<Json> from = own_items ? objects : read_objects(file);
    if (!own_items) {
      const std::string hash = hash_file(file);
      out.data_hash = hash_bytes((out.data_hash + hash).data(), out.data_hash.size() + hash.size());
    }
    for (size_t i = 0; i < from.size(); ++i)
      filled(file, from, i,
             [&](const Json& object) { pool.push_back(example_of(object, templates, d)); });
  }
  for (int64_t i = 0; i < count; ++i)
    filled(out.data_file, objects, size_t(i), [&](const Json& object) {
      BenchmarkItem item = fill(object, templates, d);
      item.number = i;
      std::string front = templates.description.text_of(object);
      if (out.shots > 0)
        front += examples_for(i,
                              {templates.match.text_of(object),
                               d.few_shot.prompt.empty() ? solved(item, d) : item.contexts[0],
                               {}},
                              pool, out.shots, d.few_shot);
      for (std::string& context : item.contexts) context = front + context;
      out.chance +=
          d.chance > 0 || item.choices.empty() ? d.chance : 1 / double(item.choices.size());
      out.items.push_back(std::move(item));
    });
  out.chance /= double(count);
  return out;
}

}  // namespace reverie
