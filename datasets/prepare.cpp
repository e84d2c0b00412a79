#include "datasets/prepare.h"

#include <fcntl.h>
#include <stdio.h>

#include <cerrno>
#include <cmath>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <span>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "datasets/tokenizers/bpe_tokenizer.h"
#include "datasets/tokenizers/char_tokenizer.h"
#include "datasets/tokenizers/subword_tokenizer.h"
#include "datasets/tokenizers/train_bpe.h"
#include "datasets/tokenizers/word_tokenizer.h"
#include "datasets/utf8.h"

namespace reverie {

namespace fs = std::filesystem;

namespace {

// The byte at which character `index` begins; `text` is UTF-8.
size_t byte_of_character(std::string_view text, int64_t index) {
  size_t at = 0;
  for (; at < text.size(); ++at)
    if ((uint8_t(text[at]) & 0xC0u) != 0x80u && index-- == 0) break;
  return at;
}

std::shared_ptr<const Tokenizer> made_tokenizer(const DataOptions& options, const CutText& text) {
  if (options.tokenizer == "gpt2") return BpeTokenizer::from_gpt2_files(find_gpt2_files(""));
  if (options.tokenizer == "char") return CharTokenizer::from_text(text.vocabulary_text());
  if (options.tokenizer == "word") return WordTokenizer::from_text(text.vocabulary_text());
  require(options.tokenizer == "bpe",
          "tokenizer '{}' is unknown; wanted 'char', 'word', 'gpt2', 'bpe' or 'pretrained'",
          options.tokenizer);
  require(options.train_bpe > 0,
          "tokenizer 'bpe' needs train_bpe, the size of its vocabulary, such as 4096");
  log_info("learning {} byte pairs from the training part", options.train_bpe);
  return std::make_shared<SubwordTokenizer>(
      train_bpe(text.training_texts(), options.train_bpe, options.special_tokens));
}

// dataset.json, without what is known only when the tokens are written.
Json provenance_of(const DatasetDescription& d, std::string_view text, int64_t characters,
                   const Tokenizer& tokenizer) {
  return {{"format", "reverie dataset 1"},
          {"source",
           {{"name", d.source.name},
            {"note", d.source.note},
            {"bytes", text.size()},
            {"characters", characters},
            {"hash", d.source.hash}}},
          {"tokenizer",
           {{"name", tokenizer.name()},
            {"hash", tokenizer.hash()},
            {"vocabulary_size", tokenizer.vocabulary_size()}}},
          {"creation", d.creation}};
}

// Counts bytes of text as they are encoded.
class EncodingProgress {
 public:
  EncodingProgress(const PrepareProgress& progress, size_t total)
      : progress_(progress), total_(int64_t(total)) {
    if (progress_) progress_(0, total_);
  }
  void add(size_t bytes) {
    done_ += int64_t(bytes);
    if (progress_) progress_(done_, total_);
  }
  // What no layout encodes: separators, and the JSON around examples.
  void finish() {
    if (done_ < total_) add(size_t(total_ - done_));
  }

 private:
  const PrepareProgress& progress_;
  int64_t total_, done_ = 0;
};

// The bytes of the training part of a text of so many characters.
size_t training_bytes(const DatasetDescription& d, std::string_view text, int64_t characters) {
  const double held_out = d.options.validation_fraction;
  const auto training_characters = int64_t(std::floor(double(characters) * (1.0 - held_out)));
  require(training_characters >= 1,
          "{} has {} characters, and validation_fraction {} leaves none to train on: lower it",
          d.source.file, characters, held_out);
  return byte_of_character(text, training_characters);
}

void write_dataset(const std::string& directory, const DatasetDescription& d,
                   const PrepareProgress& to_report) {
  const DataOptions& options = d.options;
  const bool reads = d.layout->reads_text();
  const TextInput input = reads
                              ? read_text_input(d.files, options.field, options.document_separator,
                                                path_in(directory, "text.part"))
                              : TextInput{};
  const int64_t characters = count_code_points(input.text);
  const PrepareProgress report = reads ? to_report : PrepareProgress{};
  const auto text = d.layout->cut(input, reads ? training_bytes(d, input.text, characters) : 0);
  const auto tokenizer = d.tokenizer ? d.tokenizer : made_tokenizer(options, *text);
  Json provenance = provenance_of(d, input.text, characters, *tokenizer);

  EncodingProgress progress(report, input.text.size());
  text->set_tokenizer(*tokenizer,
                      options.special_tokens ? SpecialTokens::read : SpecialTokens::as_text);
  const auto write_part = [&](Part part, const char* file, const char* key) {
    TokenFileWriter writer(path_in(directory, file),
                           tokenizer->vocabulary_size() + d.layout->marks(*tokenizer),
                           tokenizer->hash(), d.source.hash);
    text->write(part, writer, [&](size_t bytes) { progress.add(bytes); });
    writer.finish();
    provenance[key] = {{"tokens", writer.count()}, {"checksum", writer.checksum()}};
  };
  write_part(Part::training, kTrainFile, "train");
  write_part(Part::held_out, kValidationFile, "validation");
  progress.finish();
  text->describe(provenance);
  text->write_beside(directory, d.source.hash, provenance);
  tokenizer->save(directory);
  // A file's name need not be UTF-8.
  write_file_atomically(path_in(directory, kDatasetFile),
                        json_text_replacing(provenance, 2) + "\n");
}

// Moves a finished directory to its place. An older one of ours changes places with it in one step,
// so that nobody who opens the data meanwhile finds it gone; it is then at `made`, for the caller
// to remove.
void put_in_place(const std::string& made, const std::string& directory) {
  if (::renameat2(AT_FDCWD, made.c_str(), AT_FDCWD, directory.c_str(), RENAME_EXCHANGE) == 0)
    return;
  if (errno == ENOENT) return rename_durably(made, directory);
  const TemporaryFolder old(directory, "old");  // a file system that cannot exchange
  rename_durably(directory, old.path());        // takes the place of the empty folder
  rename_durably(made, directory);
}

// Throws unless the data may be made in the directory: nobody's data are replaced unasked.
void require_room(const DatasetDescription& d) {
  if (!fs::exists(d.directory) || fs::is_empty(d.directory)) return;
  require(!read_provenance(d.directory).is_null(),
          "{} holds something else than prepared data (no {}); choose another prepared_directory",
          d.directory, kDatasetFile);
  if (const std::string how = prepared_difference(d); !how.empty() && !d.options.replace)
    throw UserError(fmt::format(
        "{} holds data that were prepared from {}; choose another prepared_directory (--out), "
        "remove that one, or let `reverie prepare --replace` make it anew",
        d.directory, how));
}

}  // namespace

std::string prepare_dataset(const DatasetDescription& d, const PrepareProgress& progress) {
  for (const DatasetDescription& entry : d.mix) prepare_dataset(entry, progress);
  if (d.is_mix() || d.is_token_directory()) return d.directory;
  const std::string& directory = d.directory;
  const auto is_current = [&] { return find_prepared_data(d) == PreparedData::current; };
  for (const char* purpose : {"preparing", "old"}) remove_orphans(directory, purpose);
  if (is_current()) return directory;
  require_room(d);
  log_info("preparing {} ({}) from {} into {}", d.source.name, d.options.tokenizer, d.source.file,
           directory);
  const TemporaryFolder making(directory, "preparing");
  try {
    write_dataset(making.path(), d, progress);
    if (!is_current()) put_in_place(making.path(), directory);
  } catch (const MachineError&) {
    // Another process may have put the same data there first.
    if (!is_current()) throw;
  } catch (const fs::filesystem_error& error) {
    throw MachineError(error.what());
  }
  return directory;
}

}  // namespace reverie
