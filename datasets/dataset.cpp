#include "datasets/dataset.h"

#include <algorithm>
#include <filesystem>
#include <nlohmann/json.hpp>
#include <vector>

#include "core/error.h"
#include "core/files.h"
#include "datasets/bin_files.h"
#include "datasets/layouts/layout.h"
#include "datasets/mixed_dataset.h"

namespace reverie {

namespace fs = std::filesystem;

namespace {

// UserError naming the first token of the file that is not below `rows`.
void require_below(const TokenFile& file, int64_t rows, const Tokenizer& tokenizer) {
  std::vector<int32_t> tokens(size_t(1) << 16);
  for (int64_t at = 0; at < file.count(); at += int64_t(tokens.size())) {
    tokens.resize(size_t(std::min(int64_t(tokens.size()), file.count() - at)));
    file.copy(at, tokens);
    tokenizer.require_below(tokens, rows);
  }
}

// The first part of what a data set's hash is of.
std::string hashed_text(const std::string& train, const std::string& validation,
                        const std::string& tokenizer, int64_t vocabulary_size) {
  return fmt::format("{}\n{}\n{}\n{}\n", train, validation, tokenizer, vocabulary_size);
}

// Its second part, where stages are mixed.
std::string hashed_steps(const std::string& steps, const StageMix& mix) {
  return fmt::format("{}\n{} {} {}\n", steps, mix.share, mix.rule.thoughts, mix.rule.thought_steps);
}

std::string hash_of(const Dataset& data) {
  std::string all = hashed_text(data.train.checksum(), data.validation.checksum(),
                                data.train.tokenizer_hash(), data.vocabulary_size());
  if (data.stage_mix) all += hashed_steps(data.train_steps.checksum(), *data.stage_mix);
  if (!data.task) return hash_bytes(all.data(), all.size());
  const std::string with_answers =
      fmt::format("{}{}\n{}\n{}\n{}\n", all, data.test.checksum(), data.train_answers.checksum(),
                  data.validation_answers.checksum(), data.test_answers.checksum());
  return hash_bytes(with_answers.data(), with_answers.size());
}

// The files of a generated task besides the two parts.
void open_task(Dataset& data, const std::string& directory, bool verify) {
  data.test = open_tokens(path_in(directory, kTestFile), {verify, 0});
  const OpenTokensOptions labels{verify, data.task->windows + 1};
  const auto answers_of = [&](const TokenFile& tokens, const char* name) {
    TokenFile answers = open_tokens(path_in(directory, name), labels);
    if (answers.count() != tokens.count())
      throw DataError(
          fmt::format("{} has labels of {} tokens, and {} has {}; prepare the data again",
                      answers.path(), answers.count(), tokens.path(), tokens.count()));
    data.task->documents_in(tokens);
    return answers;
  };
  data.train_answers = answers_of(data.train, kTrainAnswersFile);
  data.validation_answers = answers_of(data.validation, kValidationAnswersFile);
  data.test_answers = answers_of(data.test, kTestAnswersFile);
}

Dataset open_bin_directory(const DataOptions& options) {
  Dataset data;
  OpenTokensOptions open{options.verify, options.vocabulary_size};
  if (fs::exists(path_in(options.path, kTokenizerFile))) {
    data.tokenizer = load_tokenizer(options.path);
    if (open.vocabulary_size == 0) open.vocabulary_size = data.tokenizer->vocabulary_size();
  }
  const auto open_all = [&](const char* part) {
    std::vector<TokenFile> files;
    for (const std::string& file : find_bin_files(options.path, part))
      files.push_back(open_tokens(file, open));
    return files;
  };
  const std::vector<TokenFile> train = open_all("train"), validation = open_all("val");
  data.train = TokenFile::joined(train);
  data.validation = TokenFile::joined(validation);
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
  if (data.tokenizer) data.provenance["tokenizer"]["hash"] = data.tokenizer->hash();
  data.hash = hash_of(data);
  if (train.size() > 1 || validation.size() > 1) {
    data.train_mix = layout_of_shards(name, train);
    data.validation_mix = layout_of_shards(name, validation);
  }
  return data;
}

// Throws unless the tokens are those of the tokenizer beside them.
void require_of_tokenizer(const Dataset& data, int32_t marks) {
  const std::string hash = data.tokenizer->hash();
  const int32_t vocabulary = data.tokenizer->vocabulary_size() + marks;
  std::vector<const TokenFile*> files = {&data.train, &data.validation};
  if (data.task) files.push_back(&data.test);
  if (data.stage_mix) files.push_back(&data.train_steps);
  for (const TokenFile* file : files)
    if (file->tokenizer_hash() != hash || file->vocabulary_size() != vocabulary)
      throw DataError(fmt::format(
          "{} was made by another tokenizer than the one beside it (vocabulary {}, "
          "hash {}; beside it {}, hash {}); "
          "prepare the data again",
          file->path(), file->vocabulary_size(), file->tokenizer_hash(), vocabulary, hash));
}

// Dataset::window_begin, as the config asks for it.
std::optional<int32_t> window_begin(const Dataset& data, const DataOptions& options) {
  if (!options.begin_windows) return std::nullopt;
  require(!data.examples && !data.task && !data.train_mix,
          "$.data.begin_windows is true, and the data are {}: wanted one text, whose windows begin "
          "anywhere; leave begin_windows out",
          data.examples ? "examples, which begin as their form says"
          : data.task   ? "a generated task, whose windows begin as the task says"
                        : "shards");
  require(data.tokenizer && data.tokenizer->begin_of_text(),
          "$.data.begin_windows is true, and the tokenizer {} has no begin-of-text token: leave it "
          "out, or give the tokenizer of a model that was trained with one",
          data.tokenizer ? data.tokenizer->name() : "is missing, which");
  return data.tokenizer->begin_of_text();
}

}  // namespace

std::string Dataset::name() const {
  return provenance.at("source").at("name").get<std::string>();
}
std::string Dataset::note() const {
  return provenance.at("source").at("note").get<std::string>();
}

TargetRule Dataset::rule_with(const TokenFile& answers, const std::optional<MixLayout>& mix) const {
  TargetRule rule(examples);
  rule.task = task;
  rule.answers = answers;
  rule.mix = mix;
  rule.window_begin = window_begin;
  return rule;
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

Dataset open_dataset(const DatasetDescription& d) {
  if (d.is_mix()) return open_mix(d);
  if (find_prepared_data(d) != PreparedData::current) {
    const std::string how = prepared_difference(d);
    throw UserError(fmt::format("{} holds no data prepared from {}{}; prepare them first",
                                d.directory, d.source.file,
                                how.empty() ? "" : ", but such from " + how));
  }
  Dataset data;
  data.provenance = read_provenance(d.directory);
  if (data.provenance.is_null()) {
    data = open_bin_directory(d.options);
    data.window_begin = window_begin(data, d.options);
    return data;
  }
  data.tokenizer = load_tokenizer(d.directory);
  const OpenTokensOptions open{d.options.verify, d.options.vocabulary_size};
  data.train = open_tokens(path_in(d.directory, kTrainFile), open);
  data.validation = open_tokens(path_in(d.directory, kValidationFile), open);
  const RecordedLayout layout = recorded_layout(data.provenance);
  data.examples = layout.examples;
  data.stage_mix = layout.stage_mix;
  if (data.stage_mix) data.train_steps = open_tokens(path_in(d.directory, kTrainStepsFile), open);
  data.task = layout.task;
  if (data.task) open_task(data, d.directory, d.options.verify);
  require_of_tokenizer(data, layout.marks);
  data.documents = layout.documents;
  data.hash = hash_of(data);
  data.window_begin = window_begin(data, d.options);
  return data;
}

std::optional<std::string> prepared_hash(const DatasetDescription& d) {
  if (find_prepared_data(d) != PreparedData::current) return std::nullopt;
  DatasetDescription headers_alone = d;
  const auto verify_unless_prepared = [](DatasetDescription& text) {
    if (!read_provenance(text.directory).is_null()) text.options.verify = false;
  };
  if (!d.is_mix()) verify_unless_prepared(headers_alone);
  for (DatasetDescription& text : headers_alone.mix) verify_unless_prepared(text);
  return open_dataset(headers_alone).hash;
}

std::optional<std::string> recorded_hash(const Json& provenance) {
  try {
    if (provenance.contains("mix")) return provenance.at("source").at("hash").get<std::string>();
    if (!provenance.contains("creation")) return std::nullopt;
    const RecordedLayout layout = recorded_layout(provenance);
    if (layout.task) return std::nullopt;
    const Json& tokenizer = provenance.at("tokenizer");
    const auto checksum = [&](const char* part) {
      return provenance.at(part).at("checksum").get<std::string>();
    };
    std::string all = hashed_text(checksum("train"), checksum("validation"),
                                  tokenizer.at("hash").get<std::string>(),
                                  tokenizer.at("vocabulary_size").get<int64_t>() + layout.marks);
    if (layout.stage_mix) all += hashed_steps(checksum("train_steps"), *layout.stage_mix);
    return hash_bytes(all.data(), all.size());
  } catch (const Json::exception&) {
    return std::nullopt;  // of another version
  }
}

Dataset prepare_and_open(const DataOptions& options, const PrepareProgress& progress) {
  const DatasetDescription description = describe_dataset(options);
  prepare_dataset(description, progress);
  return open_dataset(description);
}

}  // namespace reverie
