#include "datasets/dataset.h"

#include <fcntl.h>
#include <omp.h>
#include <stdio.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <cmath>
#include <exception>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <optional>
#include <span>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "core/parallel.h"
#include "datasets/sources.h"
#include "datasets/tokenizers/bpe_tokenizer.h"
#include "datasets/tokenizers/char_tokenizer.h"
#include "datasets/tokenizers/word_tokenizer.h"
#include "datasets/utf8.h"

namespace reverie {

namespace fs = std::filesystem;

void DataOptions::fields(Fields& f) {
  f.text("name", name, {},
         "the text's name, looked up in $REVERIE_DATA and the cache; empty: tinyshakespeare");
  f.text("path", path, {},
         "a text file, or a directory of token files (prepared, nanoGPT's or llm.c's)");
  f.text("tokenizer", tokenizer, {"char", "word", "gpt2", "pretrained"},
         "char: one token a character; word: one a word, of the text's own; gpt2: GPT-2's byte "
         "pairs; pretrained: a pretrained model's");
  f.text(
      "tokenizer_files", tokenizer_files, {},
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
  f.text("prepared_directory", prepared_directory, {},
         "where token files are kept; empty: data/<name>-<tokenizer>");
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
constexpr size_t kPieceBytes = size_t(1) << 20;

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

// What must be equal for prepared files to be used again.
Json creation_of(const SourceText& source, const DataOptions& options) {
  Json creation = {{"source_hash", source.hash},
                   {"tokenizer", options.tokenizer},
                   {"validation_fraction", options.validation_fraction},
                   {"special_tokens", options.special_tokens}};
  if (!options.document_separator.empty())
    creation["documents"] = {{"separator", options.document_separator},
                             {"token", options.document_token}};
  if (options.examples.given())
    creation["examples"] = {{"form", options.examples.form},
                            {"stage", options.examples.stage},
                            {"thoughts", options.examples.thoughts}};
  if (options.tokenizer == "pretrained")
    creation["tokenizer_hash"] = load_tokenizer_for(options.tokenizer_files)->hash();
  return creation;
}

size_t bytes_of(std::string_view piece) {
  return piece.size();
}
size_t bytes_of(std::span<const std::string_view> documents) {
  size_t bytes = 0;
  for (const std::string_view document : documents) bytes += document.size();
  return bytes;
}

// Encodes pieces in parallel, `next` giving one after another (nullopt: no more), and appends their
// tokens in order.
template <class Piece, class Next, class Encode>
void encode_pieces(TokenFileWriter& writer, Next next, Encode encode,
                   const std::function<void(size_t)>& encoded_bytes) {
  const size_t pieces_at_once = size_t(omp_get_max_threads()) * 2;
  for (bool more = true; more;) {
    std::vector<Piece> pieces;
    while (more && pieces.size() < pieces_at_once) {
      std::optional<Piece> piece = next();
      more = piece.has_value();
      if (more) pieces.push_back(std::move(*piece));
    }
    std::vector<std::vector<int32_t>> tokens(pieces.size());
    std::vector<std::exception_ptr> errors(pieces.size());  // none may leave the parallel loop
    share_out(int64_t(pieces.size()), true, [&](int64_t i) {
      try {
        tokens[size_t(i)] = encode(pieces[size_t(i)]);
      } catch (...) {
        errors[size_t(i)] = std::current_exception();
      }
    });
    for (size_t i = 0; i < pieces.size(); ++i) {
      if (errors[i]) std::rethrow_exception(errors[i]);
      writer.append(tokens[i]);
      encoded_bytes(bytes_of(pieces[i]));
    }
  }
}

// Encodes `text` into `writer`, in pieces that give the same tokens as the whole.
void encode_into(TokenFileWriter& writer, const Tokenizer& tokenizer, std::string_view text,
                 SpecialTokens special, const std::function<void(size_t)>& encoded_bytes) {
  size_t at = 0;
  const auto next = [&]() -> std::optional<std::string_view> {
    if (at >= text.size()) return std::nullopt;
    const size_t begin = at;
    at = tokenizer.cut_after(text, std::min(at + kPieceBytes, text.size()));
    return text.substr(begin, at - begin);
  };
  encode_pieces<std::string_view>(
      writer, next, [&](std::string_view piece) { return tokenizer.encode(piece, special); },
      encoded_bytes);
}

// Encodes every document by itself, with the mark that its model knows.
void encode_documents_into(TokenFileWriter& writer, const Tokenizer& tokenizer,
                           std::span<const std::string_view> documents, const DocumentMark& mark,
                           SpecialTokens special,
                           const std::function<void(size_t)>& encoded_bytes) {
  using Documents = std::span<const std::string_view>;
  size_t at = 0;
  const auto next = [&]() -> std::optional<Documents> {
    if (at >= documents.size()) return std::nullopt;
    const size_t begin = at;
    for (size_t bytes = 0; at < documents.size() && bytes < kPieceBytes; ++at)
      bytes += documents[at].size();
    return documents.subspan(begin, at - begin);
  };
  const auto encode = [&](Documents piece) {
    std::vector<int32_t> tokens;
    for (const std::string_view document : piece) {
      if (mark.begins) tokens.push_back(mark.token);
      const auto own = tokenizer.encode(document, special);
      tokens.insert(tokens.end(), own.begin(), own.end());
      if (!mark.begins) tokens.push_back(mark.token);
    }
    return tokens;
  };
  encode_pieces<Documents>(writer, next, encode, encoded_bytes);
}

// The byte at which character `index` begins; `text` is UTF-8.
size_t byte_of_character(std::string_view text, int64_t index) {
  size_t at = 0;
  for (; at < text.size(); ++at)
    if ((uint8_t(text[at]) & 0xC0u) != 0x80u && index-- == 0) break;
  return at;
}

std::shared_ptr<const Tokenizer> make_tokenizer(const DataOptions& options, std::string_view text) {
  if (options.tokenizer == "char") return CharTokenizer::from_text(text);
  if (options.tokenizer == "word") return WordTokenizer::from_text(text);
  if (options.tokenizer == "pretrained") return load_tokenizer_for(options.tokenizer_files);
  require(options.tokenizer == "gpt2",
          "tokenizer '{}' is unknown; wanted 'char', 'word', 'gpt2' or 'pretrained'",
          options.tokenizer);
  return BpeTokenizer::from_gpt2_files(find_gpt2_files(options.tokenizer_files));
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

void write_dataset(const std::string& directory, const SourceText& source,
                   const DataOptions& options, const PrepareProgress& progress) {
  const auto mapping = map_file(source.file);
  const std::string_view text(static_cast<const char*>(mapping->data()), mapping->bytes());
  if (text.empty())
    throw DataError(
        fmt::format("the text {} is empty; there is nothing to learn from", source.file));
  int64_t characters = 0;
  try {
    characters = count_code_points(text);
  } catch (const DataError& error) {
    throw DataError(fmt::format("{}: {}", source.file, error.what()));
  }
  const auto train_characters =
      int64_t(std::floor(double(characters) * (1.0 - options.validation_fraction)));
  require(train_characters >= 1,
          "{} has {} characters, of which validation_fraction {} leaves none to train on",
          source.file, characters, options.validation_fraction);
  std::vector<Example> examples;
  if (options.examples.given()) examples = examples_of(options, text, source.file);
  const auto tokenizer =
      make_tokenizer(options, examples.empty() ? text : text_of_examples(examples));
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
                      {"creation", creation_of(source, options)}};
  const auto special = options.special_tokens ? SpecialTokens::read : SpecialTokens::as_text;
  const size_t split = byte_of_character(text, train_characters);
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
  } else if (options.document_separator.empty()) {
    const auto of = [&](std::string_view part) {
      return [&, part](TokenFileWriter& w) { encode_into(w, *tokenizer, part, special, encoded); };
    };
    write_part(kTrainFile, "train", of(text.substr(0, split)));
    write_part(kValidationFile, "validation", of(text.substr(split)));
  } else {
    // Only whole documents: one that begins in the training part belongs to it.
    const auto documents = split_documents(text, options.document_separator);
    const DocumentMark mark = document_mark(*tokenizer, options.document_token);
    const auto held_out =
        size_t(std::find_if(documents.begin(), documents.end(),
                            [&](std::string_view d) { return d.data() >= text.data() + split; }) -
               documents.begin());
    const auto of = [&](std::span<const std::string_view> part) {
      return [&, part](TokenFileWriter& w) {
        encode_documents_into(w, *tokenizer, part, mark, special, encoded);
      };
    };
    const std::span<const std::string_view> all(documents);
    write_part(kTrainFile, "train", of(all.first(held_out)));
    write_part(kValidationFile, "validation", of(all.subspan(held_out)));
    if (progress && done < int64_t(text.size()))
      progress(int64_t(text.size()), int64_t(text.size()));  // the separators
    description["documents"] = {{"count", documents.size()},
                                {"train", held_out},
                                {"mark", {{"token", mark.token}, {"begins", mark.begins}}}};
  }
  tokenizer->save(directory);
  write_file_atomically(in(directory, kDatasetFile), json_text(description, 2) + "\n");
}

bool is_current(const std::string& directory, const Json& creation) {
  const Json there = read_provenance(directory);
  return !there.is_null() && there.value("creation", Json()) == creation &&
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

SourceText source_of(const DataOptions& options) {
  if (options.path.empty() && options.examples.given()) return find_examples(options.examples.form);
  if (options.path.empty())
    return find_source_text(options.name.empty() ? "tinyshakespeare" : options.name);
  require(fs::exists(options.path), "the data path {} does not exist", options.path);
  return describe_source_text(options.path, options.name);
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
  if (fs::is_directory(options.path)) return options.path;
  require(
      options.tokenizer != "pretrained" || !options.tokenizer_files.empty(),
      "tokenizer 'pretrained' needs tokenizer_files: a .gguf file, a Hugging Face directory or a "
      "tokenizer's own file");
  const SourceText source = source_of(options);
  const Json creation = creation_of(source, options);
  std::string directory = options.prepared_directory;
  if (directory.empty()) {
    directory = in("data", fmt::format("{}-{}", source.name, options.tokenizer));
    if (creation.contains("tokenizer_hash"))  // one directory for each vocabulary
      directory +=
          fmt::format("-{}", creation.at("tokenizer_hash").get<std::string>().substr(0, 8));
    if (!options.document_separator.empty()) directory += "-documents";
    if (options.examples.given())
      directory += fmt::format("-stage{}x{}", options.examples.stage, options.examples.thoughts);
  }
  if (is_current(directory, creation)) return directory;
  if (fs::exists(directory) && read_provenance(directory).is_null() && !fs::is_empty(directory))
    throw UserError(fmt::format(
        "{} holds something else than prepared data (no {}); choose another prepared_directory",
        directory, kDatasetFile));
  log_info("preparing {} ({}) from {} into {}", source.name, options.tokenizer, source.file,
           directory);
  const std::string making = beside(directory, "preparing");
  try {
    fs::create_directories(making);
    write_dataset(making, source, options, progress);
    if (!is_current(directory, creation)) put_in_place(making, directory);
  } catch (const MachineError&) {
    // Another process may have put the same data there first.
    if (!is_current(directory, creation)) {
      remove_quietly(making);
      throw;
    }
  } catch (const fs::filesystem_error& error) {
    remove_quietly(making);
    throw MachineError(error.what());
  } catch (...) {
    remove_quietly(making);
    throw;
  }
  remove_quietly(making);
  return directory;
}

std::string Dataset::name() const {
  return provenance.at("source").at("name").get<std::string>();
}
std::string Dataset::note() const {
  return provenance.at("source").at("note").get<std::string>();
}

void Dataset::require_vocabulary(int64_t model_vocabulary_size) const {
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
