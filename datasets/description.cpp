#include "datasets/description.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "datasets/compressed.h"
#include "datasets/example_marks.h"
#include "datasets/mixed_dataset.h"
#include "datasets/tokenizers/bpe_tokenizer.h"

namespace reverie {

namespace fs = std::filesystem;

namespace {

// The tokenizer that comes from files; null where it is made from the text.
std::shared_ptr<const Tokenizer> given_tokenizer(const DataOptions& options) {
  if (options.tokenizer == "pretrained") {
    require(
        !options.tokenizer_files.empty(),
        "tokenizer 'pretrained' needs tokenizer_files: a .gguf file, a Hugging Face directory or "
        "a tokenizer's own file");
    auto published = load_tokenizer_for(options.tokenizer_files);
    return options.marks == "tokens" ? with_marks(std::move(published)) : published;
  }
  if (options.tokenizer == "gpt2") {
    try {
      return BpeTokenizer::from_gpt2_files(find_gpt2_files(options.tokenizer_files));
    } catch (const UserError&) {  // data that are prepared already do without the files
      if (!options.tokenizer_files.empty()) throw;
    }
  }
  return nullptr;
}

// The order of the keys is part of the directory's name.
Json creation_of(const DatasetDescription& d) {
  Json creation = {{"source_hash", d.source.hash},
                   {"tokenizer", d.options.tokenizer},
                   {"validation_fraction", d.options.validation_fraction},
                   {"special_tokens", d.options.special_tokens}};
  d.layout->add_to_creation(creation);
  if (d.options.tokenizer == "bpe") creation["train_bpe"] = d.options.train_bpe;
  if (d.options.tokenizer == "pretrained") creation["tokenizer_hash"] = d.tokenizer->hash();
  return creation;
}

// XXH3-128 over those of all files.
std::string hash_of_files(const std::vector<std::string>& files) {
  std::string hashes;
  for (const std::string& file : files) hashes += hash_file(file) + "\n";
  return hash_bytes(hashes.data(), hashes.size());
}

// "books" for books/, books/*.txt and books.jsonl.gz.
std::string name_of_texts(const std::string& path, const TextFiles& files) {
  fs::path named = fs::absolute(path).lexically_normal();
  if (files.documents && !fs::exists(path)) named = named.parent_path();
  if (!named.has_filename()) named = named.parent_path();  // "books/"
  if (fs::is_directory(named)) return named.filename().string();
  return fs::path(without_compression(named.string())).stem().string();
}

void require_use_of_marks(const DataOptions& o) {
  if (o.marks != "tokens") return;
  require(o.problems.given() || (o.examples.given() && !o.examples.told()),
          "$.data.marks is \"tokens\", and the data are no examples: wanted $.data.problems, or "
          "$.data.examples of the form prosqa or gsm8k; or leave marks out");
  require(o.tokenizer == "pretrained",
          "$.data.marks is \"tokens\", and $.data.tokenizer is \"{}\": wanted \"pretrained\", a "
          "published vocabulary that they are added to; or leave marks out",
          o.tokenizer);
}

// Refuses what applies to texts alone. What is made from a seed has words of its own, and no file.
// `tokenizers`: others that may encode it.
void refuse_options_of_texts(DataOptions& o, const char* made,
                             std::initializer_list<std::string_view> tokenizers) {
  const auto refuse = [&](bool given, const char* key) {
    require(!given, "data.{} makes its own text, so data.{} does not apply: remove it", made, key);
  };
  refuse(!o.path.empty(), "path");
  refuse(!o.document_separator.empty(), "document_separator");
  refuse(!o.document_token.empty(), "document_token");
  if (std::find(tokenizers.begin(), tokenizers.end(), o.tokenizer) != tokenizers.end()) return;
  refuse(o.tokenizer != "char" && o.tokenizer != "word", "tokenizer");
  o.tokenizer = "word";
}

void find_problems(DatasetDescription& d) {
  DataOptions& o = d.options;
  refuse_options_of_texts(o, "problems", {"bpe", "pretrained"});
  require(!o.generated.given(),
          "data.problems and data.generated are both given: remove one of them");
  require(!o.examples.given(),
          "data.problems are examples already, so data.examples.form \"{}\" does not apply: remove "
          "it (stage and thoughts do apply)",
          o.examples.form);
  d.source = source_of_problems(o.problems);
  if (!o.name.empty()) d.source.name = o.name;
}

void find_generated(DatasetDescription& d) {
  DataOptions& o = d.options;
  refuse_options_of_texts(o, "generated", {});
  require(!o.examples.given() || o.examples.told(),
          "data.generated makes its own text, so data.examples does not apply: remove it");
  d.source = {o.name.empty() ? o.generated.type : o.name, "the generated task " + o.generated.type,
              hash_of_generated(o.generated), ""};
}

void find_source(DatasetDescription& d) {
  const DataOptions& options = d.options;
  const bool examples = options.examples.given() && !options.examples.told();
  if (options.problems.given()) return find_problems(d);
  if (options.generated.given()) return find_generated(d);
  if (options.path.empty()) {
    d.source = examples ? find_examples(options.examples.form)
                        : find_source_text(options.name.empty() ? "tinyshakespeare" : options.name);
    d.files.files = {d.source.file};
    return;
  }
  d.files = find_text_files(options.path, examples);
  if (d.files.documents || without_compression(options.path) != options.path)
    d.source = {options.name.empty() ? name_of_texts(options.path, d.files) : options.name,
                options.path, hash_of_files(d.files.files), ""};
  else
    d.source = describe_source_text(options.path, options.name);
}

// How prepared data with this dataset.json differ from the description.
std::string difference(const Json& there, const DatasetDescription& d) {
  const Json before = there.value("creation", Json::object());
  const bool another = before.value("source_hash", Json()) != d.creation.at("source_hash");
  // The text of a generated task follows from its options, which are compared below.
  if (another && !before.contains("generated")) return "another text";
  for (const std::string& line : config_differences(before, d.creation))
    if (!line.starts_with("$.source_hash")) return "other options: " + line.substr(2);
  if (another) return "an earlier version of the task";
  if (d.tokenizer && there.at("tokenizer").at("hash") != d.tokenizer->hash())
    return "another vocabulary";
  return "";
}

bool is_current(const std::string& directory, const DatasetDescription& d) {
  const Json there = read_provenance(directory);
  const auto own = d.layout->own_files();
  return !there.is_null() && difference(there, d).empty() &&
         std::all_of(
             own.begin(), own.end(),
             [&](const std::string& file) { return fs::exists(path_in(directory, file)); }) &&
         fs::exists(path_in(directory, kTrainFile)) &&
         fs::exists(path_in(directory, kValidationFile)) &&
         fs::exists(path_in(directory, kTokenizerFile));
}

std::string directory_of(const DatasetDescription& d) {
  const DataOptions& options = d.options;
  if (!options.prepared_directory.empty()) {
    std::string directory = options.prepared_directory;
    while (directory.size() > 1 && directory.ends_with('/')) directory.pop_back();
    return directory;
  }
  constexpr size_t kLongestName = 100;  // of a text's, in a name of at most 255
  std::string directory = path_in(
      "data", fmt::format("{}-{}", d.source.name.substr(0, kLongestName), options.tokenizer));
  if (d.creation.contains("tokenizer_hash"))  // one directory for each vocabulary
    directory +=
        fmt::format("-{}", d.creation.at("tokenizer_hash").get<std::string>().substr(0, 8));
  directory += d.layout->directory_suffix();
  if (is_current(directory, d)) return directory;  // as earlier versions named it
  std::string all = json_text(d.creation);
  if (d.tokenizer) all += d.tokenizer->hash();
  return fmt::format("{}-{}", directory, hash_bytes(all.data(), all.size()).substr(0, 8));
}

}  // namespace

Json read_provenance(const std::string& directory) {
  const std::string file = path_in(directory, kDatasetFile);
  if (!fs::exists(file)) return nullptr;
  try {
    Json json = parse_json(read_file(file));
    if (json.at("format").get<std::string>() != "reverie dataset 1")
      throw DataError(fmt::format("{}: wanted format 'reverie dataset 1', got {}", file,
                                  json_text(json.at("format"))));
    json.at("source").at("name").get<std::string>();
    json.at("source").at("note").get<std::string>();
    return json;
  } catch (const Json::exception& error) {
    throw DataError(fmt::format("{} is not a data set's description: {}", file, error.what()));
  }
}

DatasetDescription describe_dataset(const DataOptions& options) {
  DatasetDescription d;
  d.options = options;
  if (!options.mix.empty()) {
    require_alone(options);
    for (const MixEntry& entry : options.mix) d.mix.push_back(describe_dataset(entry));
    return d;
  }
  if (is_token_directory(options.path)) {
    d.directory = options.path;
    return d;
  }
  require_use_of_marks(options);
  find_source(d);
  d.layout = layout_of(d.options, d.files, d.source.file);
  d.tokenizer = given_tokenizer(options);
  d.creation = creation_of(d);
  d.directory = directory_of(d);
  return d;
}

PreparedData find_prepared_data(const DatasetDescription& d) {
  if (d.is_mix()) {  // the one that needs the most
    PreparedData found = PreparedData::current;
    for (const DatasetDescription& entry : d.mix) {
      const PreparedData own = find_prepared_data(entry);
      if (found == PreparedData::current || own == PreparedData::other) found = own;
    }
    return found;
  }
  if (d.is_token_directory()) return PreparedData::current;
  if (!fs::exists(d.directory) || fs::is_empty(d.directory)) return PreparedData::missing;
  return is_current(d.directory, d) ? PreparedData::current : PreparedData::other;
}

std::string prepared_difference(const DatasetDescription& d) {
  for (const DatasetDescription& entry : d.mix)
    if (std::string how = prepared_difference(entry); !how.empty()) return how;
  if (d.is_mix()) return "";
  const Json there = d.is_token_directory() ? Json() : read_provenance(d.directory);
  return there.is_null() ? "" : difference(there, d);
}

}  // namespace reverie
