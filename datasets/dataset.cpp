#include "datasets/dataset.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "datasets/compressed.h"
#include "datasets/encode.h"
#include "datasets/sources.h"
#include "datasets/text_input.h"
#include "datasets/tokenizers/bpe_tokenizer.h"
#include "datasets/tokenizers/char_tokenizer.h"
#include "datasets/tokenizers/subword_tokenizer.h"
#include "datasets/tokenizers/train_bpe.h"
#include "datasets/tokenizers/word_tokenizer.h"
#include "datasets/utf8.h"

namespace reverie {

namespace fs = std::filesystem;

void DataOptions::fields(Fields& f) {
  f.text("name", name, {},
         "the text's name, looked up in $REVERIE_DATA and the cache; empty: tinyshakespeare");
  f.path("path", path,
         "a text file; a directory or pattern (*) of text files, each a document; a .jsonl file, "
         "each line a document (field); any of these as .gz or .zst; or a directory of token files "
         "(prepared, nanoGPT's or llm.c's)");
  f.text("field", field, {}, "of .jsonl files: what holds each line's text");
  f.text(
      "tokenizer", tokenizer, {"char", "word", "gpt2", "bpe", "pretrained"},
      "char: one token a character; word: one a word, of the text's own; gpt2: GPT-2's byte "
      "pairs; bpe: byte pairs learnt from the text (train_bpe); pretrained: a pretrained model's");
  f.integer("train_bpe", train_bpe, {0, int64_t(1) << 24},
            "bpe: how many tokens the vocabulary has, 257 or more");
  f.path(
      "tokenizer_files", tokenizer_files,
      "gpt2: the folder of encoder.json and vocab.bpe, empty: as data; pretrained: a .gguf file, "
      "a Hugging Face directory or a tokenizer's own file");
  f.text("document_separator", document_separator, {},
         "what stands between documents, e.g. \"\\n\" (exactly one line break) or "
         "\"<|endoftext|>\": each is encoded by itself and marked as in its model's training; "
         "empty: the text is one document");
  f.text("document_token", document_token, {},
         "the token after each document, as text; empty: the tokenizer's begin-of-text token "
         "before each where its model was trained so, else its end-of-text token after each");
  f.object("examples", examples, "a text of questions, reasoning steps and answers");
  f.number("validation_fraction", validation_fraction, {0.0, 0.5},
           "the part of the characters (or examples), at the end, held out");
  f.path("prepared_directory", prepared_directory,
         "where token files are kept; empty: data/<name>-<tokenizer>-<hash of what they are made "
         "from>");
  f.integer("vocabulary_size", vocabulary_size, {0, (int64_t(1) << 31) - 1},
            "of .bin files that do not say; 0: as the file says");
  f.boolean("special_tokens", special_tokens,
            "read <|endoftext|> in the text as GPT-2's end-of-text token");
  f.boolean("verify", verify,
            "compare every byte of the token files with their checksums on opening");
}

namespace {

constexpr const char* kDatasetFile = "dataset.json";
constexpr const char* kTrainFile = "train.tok";
constexpr const char* kValidationFile = "validation.tok";

std::string in(const std::string& directory, std::string_view name) {
  return (fs::path(directory) / name).string();
}

// dataset.json of a directory, or null when there is none.
Json read_provenance(const std::string& directory) {
  const std::string file = in(directory, kDatasetFile);
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

// The source of a data set.
struct Recipe {
  SourceText source;
  TextFiles files;
  std::shared_ptr<const Tokenizer> tokenizer;  // null: it is made from the text
  Json creation;  // all that must be equal for prepared files to be used again, but the tokenizer
};

// Whether the bytes at `file`, not compressed, hold a line end of Windows.
bool has_windows_line_ends(const std::string& file) {
  const auto mapping = map_file(file);
  const std::string_view text(static_cast<const char*>(mapping->data()), mapping->bytes());
  return text.find("\r\n") != text.npos;
}

Json creation_of(const Recipe& recipe, const DataOptions& options) {
  Json creation = {{"source_hash", recipe.source.hash},
                   {"tokenizer", options.tokenizer},
                   {"validation_fraction", options.validation_fraction},
                   {"special_tokens", options.special_tokens}};
  if (!options.document_separator.empty() || recipe.files.documents) {
    creation["documents"] = {{"separator", options.document_separator},
                             {"token", options.document_token}};
    if (recipe.files.documents)
      creation["documents"]["field"] = options.field;
    else if (has_windows_line_ends(recipe.source.file))  // once they separated nothing
      creation["documents"]["line_ends"] = "crlf";
  }
  if (options.examples.given())
    creation["examples"] = {{"form", options.examples.form},
                            {"stage", options.examples.stage},
                            {"thoughts", options.examples.thoughts}};
  if (options.tokenizer == "bpe") creation["train_bpe"] = options.train_bpe;
  if (options.tokenizer == "pretrained") creation["tokenizer_hash"] = recipe.tokenizer->hash();
  return creation;
}

// The byte at which character `index` begins; `text` is UTF-8.
size_t byte_of_character(std::string_view text, int64_t index) {
  size_t at = 0;
  for (; at < text.size(); ++at)
    if ((uint8_t(text[at]) & 0xC0u) != 0x80u && index-- == 0) break;
  return at;
}

// The tokenizer that comes from files; null where it is made from the text.
std::shared_ptr<const Tokenizer> given_tokenizer(const DataOptions& options) {
  if (options.tokenizer == "pretrained") {
    require(
        !options.tokenizer_files.empty(),
        "tokenizer 'pretrained' needs tokenizer_files: a .gguf file, a Hugging Face directory or "
        "a tokenizer's own file");
    return load_tokenizer_for(options.tokenizer_files);
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

// `training`: the documents, or the text, of the training part.
std::shared_ptr<const Tokenizer> made_tokenizer(const DataOptions& options, std::string_view text,
                                                std::span<const std::string_view> training) {
  if (options.tokenizer == "gpt2") return BpeTokenizer::from_gpt2_files(find_gpt2_files(""));
  if (options.tokenizer == "char") return CharTokenizer::from_text(text);
  if (options.tokenizer == "word") return WordTokenizer::from_text(text);
  require(options.tokenizer == "bpe",
          "tokenizer '{}' is unknown; wanted 'char', 'word', 'gpt2', 'bpe' or 'pretrained'",
          options.tokenizer);
  require(options.train_bpe > 0,
          "tokenizer 'bpe' needs train_bpe, the size of its vocabulary, such as 4096");
  log_info("learning {} byte pairs from the training part", options.train_bpe);
  return std::make_shared<SubwordTokenizer>(
      train_bpe(training, options.train_bpe, options.special_tokens));
}

std::vector<Example> examples_of(const DataOptions& options, std::string_view text,
                                 const std::string& file) {
  require(options.document_separator.empty(),
          "examples are told apart by their form; leave document_separator empty");
  try {
    return read_examples(options.examples.form, text);
  } catch (const DataError& error) {
    throw DataError(fmt::format("{}: {}", file, error.what()));
  }
}

void write_dataset(const std::string& directory, const Recipe& recipe, const DataOptions& options,
                   const PrepareProgress& progress) {
  const SourceText& source = recipe.source;
  const TextInput input = read_text_input(recipe.files, options.field, options.document_separator,
                                          in(directory, "text.part"));
  const std::string_view text = input.text;
  const std::span<const std::string_view> documents(input.documents);
  const bool in_documents = recipe.files.documents || !options.document_separator.empty();
  const int64_t characters = count_code_points(text);
  const auto train_characters =
      int64_t(std::floor(double(characters) * (1.0 - options.validation_fraction)));
  require(train_characters >= 1,
          "{} has {} characters, of which validation_fraction {} leaves none to train on",
          source.file, characters, options.validation_fraction);
  const size_t split = byte_of_character(text, train_characters);
  // Only whole documents: one that begins in the training part belongs to it.
  const auto train_documents =
      size_t(std::find_if(documents.begin(), documents.end(),
                          [&](std::string_view d) { return d.data() >= text.data() + split; }) -
             documents.begin());
  std::vector<Example> examples;
  if (options.examples.given()) examples = examples_of(options, text, source.file);
  auto tokenizer = recipe.tokenizer;
  if (!tokenizer) {
    const std::string_view whole = text.substr(0, split);
    const std::string all = examples.empty() ? "" : text_of_examples(examples);
    const std::string_view all_of_them = all;
    if (!examples.empty())
      tokenizer = made_tokenizer(options, all, {&all_of_them, 1});
    else
      tokenizer = made_tokenizer(options, text,
                                 in_documents ? documents.first(train_documents)
                                              : std::span<const std::string_view>{&whole, 1});
  }
  const std::string tokenizer_hash = tokenizer->hash();

  Json description = {{"format", "reverie dataset 1"},
                      {"source",
                       {{"name", source.name},
                        {"note", source.note},
                        {"bytes", text.size()},
                        {"characters", characters},
                        {"hash", source.hash}}},
                      {"tokenizer",
                       {{"name", tokenizer->name()},
                        {"hash", tokenizer_hash},
                        {"vocabulary_size", tokenizer->vocabulary_size()}}},
                      {"creation", recipe.creation}};
  const auto special = options.special_tokens ? SpecialTokens::read : SpecialTokens::as_text;
  int64_t done = 0;
  if (progress) progress(done, int64_t(text.size()));
  const auto encoded = [&](size_t bytes) {
    done += int64_t(bytes);
    if (progress) progress(done, int64_t(text.size()));
  };
  const auto write_part = [&](const char* file, const char* key, const auto& encode) {
    TokenFileWriter writer(
        in(directory, file),
        tokenizer->vocabulary_size() + (examples.empty() ? 0 : ExampleLayout::kMarks),
        tokenizer_hash, source.hash);
    encode(writer);
    writer.finish();
    description[key] = {{"tokens", writer.count()}, {"checksum", writer.checksum()}};
  };
  if (!examples.empty()) {
    ExampleLayout layout;
    const auto records = example_records(examples, options.examples, *tokenizer, layout);
    const auto held_out =
        size_t(std::floor(double(records.size()) * (1.0 - options.validation_fraction)));
    require(held_out >= 1 && held_out < records.size(),
            "{} examples, of which validation_fraction {} leaves {} to train on and {} to hold out",
            records.size(), options.validation_fraction, held_out, records.size() - held_out);
    const auto of = [&](size_t begin, size_t end) {
      return [&, begin, end](TokenFileWriter& w) {
        for (size_t i = begin; i < end; ++i) w.append(records[i]);
      };
    };
    write_part(kTrainFile, "train", of(0, held_out));
    write_part(kValidationFile, "validation", of(held_out, records.size()));
    encoded(text.size());
    description["examples"] = {{"count", records.size()},
                               {"train", held_out},
                               {"length", layout.length},
                               {"first_mark", layout.first_mark}};
  } else if (!in_documents) {
    const auto of = [&](std::string_view part) {
      return [&, part](TokenFileWriter& w) { encode_into(w, *tokenizer, part, special, encoded); };
    };
    write_part(kTrainFile, "train", of(text.substr(0, split)));
    write_part(kValidationFile, "validation", of(text.substr(split)));
  } else {
    const DocumentMark mark = document_mark(*tokenizer, options.document_token);
    const auto of = [&](std::span<const std::string_view> part) {
      return [&, part](TokenFileWriter& w) {
        encode_documents_into(w, *tokenizer, part, mark, special, encoded);
      };
    };
    write_part(kTrainFile, "train", of(documents.first(train_documents)));
    write_part(kValidationFile, "validation", of(documents.subspan(train_documents)));
    if (progress && done < int64_t(text.size()))
      progress(int64_t(text.size()), int64_t(text.size()));  // the separators
    description["documents"] = {{"count", documents.size()},
                                {"train", train_documents},
                                {"mark", {{"token", mark.token}, {"begins", mark.begins}}}};
  }
  tokenizer->save(directory);
  // A file's name need not be UTF-8.
  write_file_atomically(in(directory, kDatasetFile), json_text_replacing(description, 2) + "\n");
}

// How the data in a directory differ from what the recipe makes: "" where they do not.
std::string difference(const Json& there, const Recipe& recipe) {
  const Json before = there.value("creation", Json::object());
  if (before.value("source_hash", Json()) != recipe.creation.at("source_hash"))
    return "another text";
  for (const std::string& line : config_differences(before, recipe.creation))
    return "other options: " + line.substr(2);  // without "$."
  if (recipe.tokenizer && there.at("tokenizer").at("hash") != recipe.tokenizer->hash())
    return "another vocabulary";
  return "";
}

bool is_current(const std::string& directory, const Recipe& recipe) {
  const Json there = read_provenance(directory);
  return !there.is_null() && difference(there, recipe).empty() &&
         fs::exists(in(directory, kTrainFile)) && fs::exists(in(directory, kValidationFile)) &&
         fs::exists(in(directory, kTokenizerFile));
}

void remove_quietly(const std::string& directory) {
  std::error_code ignored;
  fs::remove_all(directory, ignored);
}

// A path beside `directory` that no other process or thread uses.
std::string beside(const std::string& directory, std::string_view purpose) {
  static std::atomic<unsigned> counter{0};
  return fmt::format("{}.{}-{}-{}", directory, purpose, ::getpid(), counter++);
}

// Moves a finished directory to its place. An older one of ours changes places with it in one step,
// so that nobody who opens the data meanwhile finds it gone; it is then at `made`, for the caller
// to remove.
void put_in_place(const std::string& made, const std::string& directory) {
  if (::renameat2(AT_FDCWD, made.c_str(), AT_FDCWD, directory.c_str(), RENAME_EXCHANGE) == 0)
    return;
  if (errno == ENOENT) return rename_durably(made, directory);
  const std::string old = beside(directory, "old");  // a file system that cannot exchange
  rename_durably(directory, old);
  rename_durably(made, directory);
  remove_quietly(old);
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

Recipe recipe_of(const DataOptions& options) {
  Recipe recipe;
  const bool examples = options.examples.given();
  if (options.path.empty()) {
    recipe.source = examples
                        ? find_examples(options.examples.form)
                        : find_source_text(options.name.empty() ? "tinyshakespeare" : options.name);
    recipe.files.files = {recipe.source.file};
  } else {
    recipe.files = find_text_files(options.path, examples);
    require(!examples || !recipe.files.documents, "examples come from one file, got {}",
            options.path);
    if (recipe.files.documents || without_compression(options.path) != options.path)
      recipe.source = {
          options.name.empty() ? name_of_texts(options.path, recipe.files) : options.name,
          options.path, hash_of_files(recipe.files.files), ""};
    else
      recipe.source = describe_source_text(options.path, options.name);
  }
  recipe.tokenizer = given_tokenizer(options);
  recipe.creation = creation_of(recipe, options);
  return recipe;
}

std::string directory_of(const Recipe& recipe, const DataOptions& options) {
  if (!options.prepared_directory.empty()) return options.prepared_directory;
  constexpr size_t kLongestName = 100;  // of a text's, in a name of at most 255
  std::string directory = in(
      "data", fmt::format("{}-{}", recipe.source.name.substr(0, kLongestName), options.tokenizer));
  if (recipe.creation.contains("tokenizer_hash"))  // one directory for each vocabulary
    directory +=
        fmt::format("-{}", recipe.creation.at("tokenizer_hash").get<std::string>().substr(0, 8));
  if (!options.document_separator.empty()) directory += "-documents";
  if (options.examples.given())
    directory += fmt::format("-stage{}x{}", options.examples.stage, options.examples.thoughts);
  if (is_current(directory, recipe)) return directory;  // as earlier versions named it
  std::string all = json_text(recipe.creation);
  if (recipe.tokenizer) all += recipe.tokenizer->hash();
  return fmt::format("{}-{}", directory, hash_bytes(all.data(), all.size()).substr(0, 8));
}

// Throws unless the data may be made in `directory`: nobody's data are replaced unasked.
void require_room(const std::string& directory, const Recipe& recipe, const DataOptions& options) {
  if (!fs::exists(directory) || fs::is_empty(directory)) return;
  const Json there = read_provenance(directory);
  require(!there.is_null(),
          "{} holds something else than prepared data (no {}); choose another prepared_directory",
          directory, kDatasetFile);
  if (const std::string how = difference(there, recipe); !how.empty() && !options.replace)
    throw UserError(fmt::format(
        "{} holds data that were prepared from {}; choose another prepared_directory (--out), "
        "remove that one, or let `reverie prepare --replace` make it anew",
        directory, how));
}

// UserError naming the first token of the file that is not below `rows`.
void require_below(const TokenFile& file, int64_t rows, const Tokenizer& tokenizer) {
  std::vector<int32_t> tokens(size_t(1) << 16);
  for (int64_t at = 0; at < file.count(); at += int64_t(tokens.size())) {
    tokens.resize(size_t(std::min(int64_t(tokens.size()), file.count() - at)));
    file.copy(at, tokens);
    tokenizer.require_below(tokens, rows);
  }
}

std::string hash_of(const Dataset& data) {
  const std::string all =
      fmt::format("{}\n{}\n{}\n{}\n", data.train.checksum(), data.validation.checksum(),
                  data.train.tokenizer_hash(), data.vocabulary_size());
  return hash_bytes(all.data(), all.size());
}

// The one file of `directory` with this name or this ending.
std::string find_bin(const std::string& directory, const std::string& name) {
  std::vector<std::string> found;
  for (const auto& entry : fs::directory_iterator(directory)) {
    const std::string file = entry.path().filename().string();
    if (file == name || file.ends_with("_" + name)) found.push_back(entry.path().string());
  }
  require(found.size() == 1,
          "the data directory {} has neither {} nor exactly one {} or *_{} ({} found); prepare it "
          "with reverie prepare",
          directory, kDatasetFile, name, name, found.size());
  return found.front();
}

Dataset open_bin_directory(const DataOptions& options) {
  Dataset data;
  OpenTokensOptions open{options.verify, options.vocabulary_size};
  if (fs::exists(in(options.path, kTokenizerFile))) {
    data.tokenizer = load_tokenizer(options.path);
    if (open.vocabulary_size == 0) open.vocabulary_size = data.tokenizer->vocabulary_size();
  }
  data.train = open_tokens(find_bin(options.path, "train.bin"), open);
  data.validation = open_tokens(find_bin(options.path, "val.bin"), open);
  require(data.train.vocabulary_size() == data.validation.vocabulary_size(),
          "{} has a vocabulary of {}, {} of {}", data.train.path(), data.train.vocabulary_size(),
          data.validation.path(), data.validation.vocabulary_size());
  const std::string name = options.name.empty()
                               ? fs::absolute(options.path).lexically_normal().filename().string()
                               : options.name;
  data.provenance = {
      {"format", "reverie dataset 1"},
      {"source", {{"name", name}, {"note", ""}}},
      {"tokenizer",
       {{"name", data.tokenizer ? Json(data.tokenizer->name()) : Json()},
        {"vocabulary_size", data.vocabulary_size()}}},
      {"train", {{"tokens", data.train.count()}, {"checksum", data.train.checksum()}}},
      {"validation",
       {{"tokens", data.validation.count()}, {"checksum", data.validation.checksum()}}}};
  data.hash = hash_of(data);
  return data;
}

}  // namespace

std::string prepare_dataset(const DataOptions& options, const PrepareProgress& progress) {
  if (is_token_directory(options.path)) return options.path;
  const Recipe recipe = recipe_of(options);
  const SourceText& source = recipe.source;
  std::string directory = directory_of(recipe, options);
  while (directory.size() > 1 && directory.ends_with('/')) directory.pop_back();
  for (const char* purpose : {"preparing", "old"}) remove_orphans(directory, purpose);
  if (is_current(directory, recipe)) return directory;
  require_room(directory, recipe, options);
  log_info("preparing {} ({}) from {} into {}", source.name, options.tokenizer, source.file,
           directory);
  const TemporaryFolder making(directory, "preparing");
  try {
    write_dataset(making.path(), recipe, options, progress);
    if (!is_current(directory, recipe)) put_in_place(making.path(), directory);
  } catch (const MachineError&) {
    // Another process may have put the same data there first.
    if (!is_current(directory, recipe)) throw;
  } catch (const fs::filesystem_error& error) {
    throw MachineError(error.what());
  }
  return directory;
}

PreparedData find_prepared_data(const DataOptions& options) {
  if (is_token_directory(options.path)) return PreparedData::current;
  const Recipe recipe = recipe_of(options);
  const std::string directory = directory_of(recipe, options);
  if (!fs::exists(directory) || fs::is_empty(directory)) return PreparedData::missing;
  return is_current(directory, recipe) ? PreparedData::current : PreparedData::other;
}

std::string Dataset::name() const {
  return provenance.at("source").at("name").get<std::string>();
}
std::string Dataset::note() const {
  return provenance.at("source").at("note").get<std::string>();
}

void Dataset::require_vocabulary(int64_t model_vocabulary_size) const {
  if (!examples && tokenizer && model_vocabulary_size < vocabulary_size() &&
      tokenizer->ordinary_vocabulary_size() <= model_vocabulary_size) {
    for (const TokenFile* file : {&train, &validation})
      require_below(*file, model_vocabulary_size, *tokenizer);
    return;
  }
  require(model_vocabulary_size >= vocabulary_size(),
          "the model's vocabulary_size {} is smaller than that of the data set {}, {}: set it to "
          "{} or more, or use the "
          "data that the model was made for",
          model_vocabulary_size, name(), vocabulary_size(), vocabulary_size());
}

Dataset open_dataset(const DataOptions& options, const PrepareProgress& progress) {
  const std::string directory = prepare_dataset(options, progress);
  Dataset data;
  data.provenance = read_provenance(directory);
  if (data.provenance.is_null()) return open_bin_directory(options);
  data.tokenizer = load_tokenizer(directory);
  const OpenTokensOptions open{options.verify, options.vocabulary_size};
  data.train = open_tokens(in(directory, kTrainFile), open);
  data.validation = open_tokens(in(directory, kValidationFile), open);
  const std::string tokenizer_hash = data.tokenizer->hash();
  int32_t vocabulary = data.tokenizer->vocabulary_size();
  if (data.provenance.contains("examples")) {
    const Json& examples = data.provenance["examples"];
    data.examples = ExampleLayout{examples.at("length"), examples.at("first_mark")};
    vocabulary += ExampleLayout::kMarks;
  }
  for (const TokenFile* file : {&data.train, &data.validation})
    if (file->tokenizer_hash() != tokenizer_hash || file->vocabulary_size() != vocabulary)
      throw DataError(
          fmt::format("{} was made by another tokenizer than the one beside it (vocabulary {}, "
                      "hash {}; beside it {}, hash {}); "
                      "prepare the data again",
                      file->path(), file->vocabulary_size(), file->tokenizer_hash(), vocabulary,
                      tokenizer_hash));
  if (data.provenance.contains("documents")) {
    const Json& mark = data.provenance["documents"].at("mark");
    data.documents = DocumentMark{mark.at("token"), mark.at("begins")};
  }
  data.hash = hash_of(data);
  return data;
}

}  // namespace reverie
