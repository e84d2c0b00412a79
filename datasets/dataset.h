#pragma once
/// A data set in three steps: describe_dataset() says what a config's "data" object means,
/// prepare_dataset() writes token files, open_dataset() reads them.

#include <memory>
#include <optional>
#include <string>

#include <nlohmann/json.hpp>

#include "core/config.h"
#include "datasets/data_options.h"
#include "datasets/description.h"
#include "datasets/documents.h"
#include "datasets/example_stages.h"
#include "datasets/examples.h"
#include "datasets/mix_layout.h"
#include "datasets/prepare.h"
#include "datasets/task_data.h"
#include "datasets/token_file.h"
#include "datasets/tokenizers/tokenizer.h"

namespace reverie {

struct Dataset {
  TokenFile train, validation;
  std::shared_ptr<const Tokenizer> tokenizer;  ///< null: .bin files that came without one
  /// dataset.json: {"source": {"name", "note", "bytes", "characters", "hash"}, "tokenizer": {"name",
  /// "hash", "vocabulary_size"}, "validation_fraction", "train": {"tokens", "checksum"},
  /// "validation": {...}, ...}
  Json provenance;
  std::string hash;  ///< of both token files and the tokenizer: what a run's config stands for
  std::optional<DocumentMark> documents;  ///< where the text was split into documents
  std::optional<ExampleLayout> examples;  ///< where it is examples: files of such records
  std::optional<StageMix> stage_mix;      ///< where training rows have other stages, too
  std::optional<TaskLayout> task;         ///< where it is a generated task
  /// Where there are several files, of a mix or shards; then the tokens are joined from all of them.
  std::optional<MixLayout> train_mix, validation_mix;
  /// The first token of every window, in place of the text's own; nullopt: windows are as they are.
  std::optional<int32_t> window_begin;
  TokenFile train_steps;  ///< where stages are mixed: kTrainStepsFile
  TokenFile test;         ///< of a generated task
  /// Labels of a generated task's tokens, see read_distances().
  TokenFile train_answers, validation_answers, test_answers;

  /// Which targets of train and of validation are learnt and scored.
  TargetRule train_rule() const { return rule_with(train_answers, train_mix); }
  TargetRule validation_rule() const { return rule_with(validation_answers, validation_mix); }
  int64_t vocabulary_size() const { return train.vocabulary_size(); }
  std::string name() const;  ///< of the text, for tables: "tinyshakespeare"
  /// What tables must say of the text: "not the paper's text: ..."; may be empty.
  std::string note() const;
  /// UserError, with both numbers, unless a model of this vocabulary can read the tokens: it is at
  /// least as large, or lacks only added tokens of the tokenizer that the text does not have (some
  /// published models have fewer rows than their tokenizer has tokens).
  void require_vocabulary(int64_t model_vocabulary_size) const;

 private:
  TargetRule rule_with(const TokenFile& answers, const std::optional<MixLayout>& mix) const;
};

/// Reads prepared token files; writes nothing. Where `path` is a directory: a prepared one
/// (dataset.json), or one of nanoGPT or llm.c with train.bin and val.bin (or *_train.bin,
/// *_val.bin, or shards: *_train_000001.bin, ...). UserError when nothing is prepared, or other data
/// are, or the texts of a mix do not fit together; DataError when a token file is damaged, or is not
/// of the tokenizer beside it.
Dataset open_dataset(const DatasetDescription& description);

/// The hash that the opened data set would have, from the headers of its token files (files without
/// a header are read). nullopt where nothing is prepared.
std::optional<std::string> prepared_hash(const DatasetDescription& description);

/// The same from a dataset.json alone. nullopt where it does not say enough: of a generated task,
/// and of the files of others.
std::optional<std::string> recorded_hash(const Json& provenance);

/// Describes, prepares what is missing, and opens.
Dataset prepare_and_open(const DataOptions& options, const PrepareProgress& progress = {});

}  // namespace reverie
