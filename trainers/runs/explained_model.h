#pragma once
/// A frozen run and a decoder that puts its memory into words (docs/explaining.md).

#include <memory>
#include <string>
#include <vector>

#include "datasets/examples.h"
#include "layers/frozen_base.h"
#include "layers/memory/explicit_decoder.h"

namespace reverie {

struct ExplainedOptions final : Fieldset {
  std::string base, base_hash, reads = "memory";
  std::vector<int64_t> layers;
  int64_t vocab_size = 0, block_size = 160;
  DecoderOptions decoder;
  void fields(Fields&) override;
};

/// As a language model it reads records of examples (ExampleLayout), whose marks are the last tokens of
/// its vocabulary: the base reads what stands before end_think, and from there on the decoder writes.
/// What it writes may depend on the memory that the text left, and on what it wrote before; rows before
/// that point have no meaning (zeros). The base is no part of the module: it is neither trained nor
/// saved, and known by its path and the hash of its weights.
class ExplainedModel : public LanguageModel, public BesideFrozenBase {
 public:
  /// UserError where the base exposes no state that can be read, or has other weights than
  /// `base_hash` (unless that is empty).
  ExplainedModel(const ExplainedOptions&, const Build&);
  ~ExplainedModel() override;

  int64_t vocabulary_size() const override { return options_.vocab_size; }
  int64_t block_size() const override { return options_.block_size; }
  Variable hidden(const Tensor& tokens, SequenceState* state) override;
  const Variable& head() const override { return decoder_->head(); }
  bool incremental() const override { return false; }
  bool carries_memory() const override { return false; }
  double forward_flops_per_token(int64_t length) const override;
  /// No row behind a batch's last target is read.
  Variable loss(const Tensor& tokens, const Tensor& targets, double weight_per_target,
                SequenceState* state) override;

  /// hidden() with this memory [B, rows, features] in place of what the texts left.
  virtual Variable hidden_with(const Tensor& tokens, const Variable& memory);
  /// The memory that the texts of records i32 [B, T] left, [B, rows, features]; a clean one for those
  /// without a point.
  Variable memory_of_records(const Tensor& tokens);
  /// The memory that texts i32 [B, T] without marks left, read in the base's windows as the base
  /// itself would (latents: of the last block_size tokens); without a graph.
  Variable memory_of(const Tensor& texts);
  /// What a text of no tokens leaves.
  Variable clean_memory(int64_t batch) const;
  /// The likeliest words of each memory, token by token, without the end.
  std::vector<std::vector<int32_t>> write(const Variable& memory, int64_t most_tokens);

  const ExplainedOptions& options() const { return options_; }
  /// Where a record is cut: tokens before its end_think; all of them where it has none.
  static int64_t point_of(const ExampleLayout& marks, std::span<const int32_t> record);
  /// The marks of its records; their length is block_size() + 1.
  ExampleLayout marks() const;
  /// Hash of the base's tokenizer; "" where it has none.
  const std::string& base_tokenizer_hash() const { return tokenizer_hash_; }
  const std::string& base_hash() const { return frozen_.hash; }
  /// The frozen run, in eval mode.
  LanguageModel& base() { return *base_; }
  FrozenBase* frozen_base() override { return &frozen_; }
  /// "8 rows of 64 features (memory of 2 layers)".
  std::string reads_in_words() const;

 private:
  struct Group;
  std::vector<Group> groups_of(const Tensor& tokens) const;
  /// [B, rows, features], of the base's own dtype and device.
  Variable rows_of(const MemoryState& state, int64_t batch) const;
  Variable as_mine(const Variable& rows) const;

  ExplainedOptions options_;
  DType dtype_;
  Device device_;
  std::unique_ptr<LanguageModel> base_;
  FrozenBase frozen_;
  std::string tokenizer_hash_;
  int64_t base_vocabulary_ = 0;
  ExplicitDecoder* decoder_;
};

/// The hash by which an explained model knows its base: of the weights of the run's newest checkpoint,
/// or of the one that is named.
std::string explained_base_hash(const std::string& base);

}  // namespace reverie
