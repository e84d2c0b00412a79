#include "trainers/runs/explained_model.h"

#include <algorithm>
#include <map>

#include "autograd/ops/shape.h"
#include "core/dry_run.h"
#include "core/error.h"
#include "layers/coprocessor/augmented_model.h"
#include "layers/targeted_columns.h"
#include "trainers/runs/stored_run.h"

namespace reverie {
namespace {

const bool explained_model_registered =
    ModelRegistry::instance().add<ExplainedModel, ExplainedOptions>(
        "explained", "a frozen run and a decoder that puts its memory into words");

const Transformer* transformer_with_memory(const LanguageModel& base) {
  const auto* transformer = dynamic_cast<const Transformer*>(&base);
  return transformer && transformer->has_memory() ? transformer : nullptr;
}

// In the dtype and on the device of the model that is being built.
std::unique_ptr<LanguageModel> base_for(LoadedRun& run, DType dtype, Device device) {
  ExperimentOptions& o = run.options;
  if (o.parameter_dtype() == dtype && o.tensor_device() == device) return std::move(run.model);
  o.precision = dtype == DType::f64 ? "f64" : "f32";
  o.device = device.kind == DeviceKind::cuda ? "cuda" : "cpu";
  auto model = make_run_model(o);
  model->load(run.model->state());
  return model;
}

}  // namespace

void ExplainedOptions::fields(Fields& f) {
  f.required().path("base", base, "the run whose memory is read, frozen");
  f.text(
      "base_hash", base_hash, {},
      "hash of the base's weights, by which a base that was retrained is refused; empty: that of "
      "its newest checkpoint when the run begins");
  f.text("reads", reads, {"memory", "final_state", "nothing"},
         "what the decoder sees. memory: the state of the base's memory module, or an augmented "
         "run's latents; controls: the final hidden state of the last token read, or nothing");
  f.integers("layers", layers, {0, 1000},
             "layers of the base whose memory is read, from 0; none: all");
  f.integer("vocab_size", vocab_size, {0, int64_t(1) << 31}, "vocabulary size; 0: the data's");
  f.integer("block_size", block_size, {1, int64_t(1) << 24},
            "longest record, in tokens: what is read, and what is written of it");
  f.object("decoder", decoder, "the decoder");
}

// Records that are read together: as long a text, cut at the same place.
struct ExplainedModel::Group {
  int64_t point = 0;
  std::vector<int64_t> rows;
  std::vector<int32_t> texts;  // [rows, length], without marks
  int64_t length = 0;
};

ExplainedModel::~ExplainedModel() = default;

ExplainedModel::ExplainedModel(const ExplainedOptions& o, const Build& build)
    : options_(o), dtype_(build.dtype), device_(build.device) {
  require(o.vocab_size > ExampleLayout::kMarks,
          "$.model.vocab_size is {}: wanted that of data of examples ($.data.examples), whose last "
          "{} tokens are marks",
          o.vocab_size, ExampleLayout::kMarks);
  LoadedRun run = load_run(o.base);
  require(dynamic_cast<const ExplainedModel*>(run.model.get()) == nullptr,
          "$.model.base {} is itself a decoder of a run's memory: wanted the run that it reads",
          o.base);
  frozen_ = {o.base, "", {}, run.model->weights_hash(), run.options.model.resolved->dump(), true};
  require(
      o.base_hash.empty() || o.base_hash == frozen_.hash || dry_run(),
      "the base {} was retrained or replaced: its weights have the hash {} now, and the decoder "
      "was trained on the memory of {} ($.model.base_hash). Restore that run, or train a new "
      "decoder",
      run.checkpoint, frozen_.hash, o.base_hash);
  if (run.tokenizer) tokenizer_hash_ = run.tokenizer->hash();
  base_vocabulary_ = run.model->vocabulary_size();
  base_ = base_for(run, build.dtype, build.device);
  base_->freeze();
  base_->train(false);
  const Variable clean = clean_memory(1);
  decoder_ = &child<ExplicitDecoder>(
      "decoder", o.decoder, DecoderShape{clean.size(1), clean.size(2), o.vocab_size, o.block_size},
      build);
}

ExampleLayout ExplainedModel::marks() const {
  ExampleLayout layout;
  layout.length = options_.block_size + 1;
  layout.first_mark = int32_t(options_.vocab_size - ExampleLayout::kMarks);
  return layout;
}

int64_t ExplainedModel::point_of(const ExampleLayout& marks, std::span<const int32_t> record) {
  return std::find(record.begin(), record.end(), marks.end_think()) - record.begin();
}

Variable ExplainedModel::as_mine(const Variable& rows) const {
  return Variable(rows.tensor().to(dtype_).to(device_).contiguous());
}

Variable ExplainedModel::rows_of(const MemoryState& state, int64_t batch) const {
  const Transformer* transformer = transformer_with_memory(*base_);
  require(
      transformer != nullptr,
      "$.model.reads is memory, but the model of {} has no memory module and no latents: wanted "
      "a base with one, or the control \"reads\": \"final_state\"",
      options_.base);
  const std::vector<Variable> all = transformer->memory()->readable(state, batch);
  require(
      !all.empty(),
      "$.model.reads is memory, but the memory module of {} exposes no state that could be read "
      "(MemoryModule::readable()): wanted one that does and whose state outlives a window, or "
      "the control \"reads\": \"final_state\"",
      options_.base);
  std::vector<Variable> chosen;
  for (const int64_t layer : options_.layers) {
    require(layer < int64_t(all.size()),
            "$.model.layers names layer {}, but the memory of {} has {} (from 0)", layer,
            options_.base, all.size());
    chosen.push_back(all[size_t(layer)]);
  }
  if (chosen.empty()) chosen = all;
  return chosen.size() == 1 ? chosen[0] : concat(chosen, 1);
}

Variable ExplainedModel::clean_memory(int64_t batch) const {
  const NoGrad no_grad;
  const auto zeros = [&](int64_t rows, int64_t features) {
    return Variable(Tensor::zeros({batch, rows, features}, dtype_, device_));
  };
  if (options_.reads == "nothing") return zeros(1, 1);
  const int64_t features = base_->head().size(1);
  if (options_.reads == "final_state") return zeros(1, features);
  if (auto* augmented = dynamic_cast<AugmentedModel*>(base_.get())) {
    require(!augmented->source().writes_cache(),
            "$.model.base {} writes its latents into the cache, as keys and values: wanted latents "
            "that are embeddings (\"writes\": \"embeddings\")",
            options_.base);
    require(options_.layers.empty(), "$.model.layers is given, but latents are of no layer");
    return zeros(augmented->source().count(), features);
  }
  return as_mine(rows_of(base_->initial_memory(batch), batch));
}

Variable ExplainedModel::memory_of(const Tensor& texts) {
  const NoGrad no_grad;
  const int64_t batch = texts.size(0), time = texts.size(1);
  if (options_.reads == "nothing" || time == 0) return clean_memory(batch);
  auto* augmented = dynamic_cast<AugmentedModel*>(base_.get());
  if (augmented && options_.reads == "memory") {
    // As a context that is too long begins anew with its last block.
    const int64_t first = std::max<int64_t>(0, time - augmented->block_size());
    return as_mine(
        augmented->latents_for(texts.slice(1, first, time).contiguous(),
                               Tensor::full({batch, 1}, double(time - first), DType::i32)));
  }
  SequenceState state;
  Variable hidden;
  const int64_t window = base_->block_size();
  for (int64_t begin = 0; begin < time; begin += window) {
    if (!base_->carries_memory()) state = SequenceState();
    hidden =
        base_->hidden(texts.slice(1, begin, std::min(time, begin + window)).contiguous(), &state);
  }
  if (options_.reads == "memory") return as_mine(rows_of(state.memory, batch));
  return as_mine(slice(hidden, 1, hidden.size(1) - 1, hidden.size(1)));
}

std::vector<ExplainedModel::Group> ExplainedModel::groups_of(const Tensor& tokens) const {
  require(tokens.rank() == 2 && tokens.dtype() == DType::i32,
          "a model takes tokens i32 [B, T], got {}", tokens);
  const Tensor host = tokens.to(Device{}).contiguous();
  const int64_t time = host.size(1);
  // Marks are the decoder's, even where the base has rows of such numbers.
  const int64_t words = std::min<int64_t>(base_vocabulary_, marks().first_mark);
  std::map<std::pair<int64_t, int64_t>, Group> groups;
  for (int64_t row = 0; row < host.size(0); ++row) {
    const std::span<const int32_t> record(host.data<int32_t>() + row * time, size_t(time));
    const int64_t point = point_of(marks(), record);
    std::vector<int32_t> text;
    for (const int32_t token : record.first(size_t(point)))
      if (token < words) text.push_back(token);
    const auto length = int64_t(text.size());
    Group& group = groups[{point, length}];
    group.point = point;
    group.length = length;
    group.rows.push_back(row);
    group.texts.insert(group.texts.end(), text.begin(), text.end());
  }
  std::vector<Group> out;
  for (auto& [key, group] : groups) out.push_back(std::move(group));
  return out;
}

namespace {

Tensor rows_from(const Tensor& tokens, const std::vector<int64_t>& rows, int64_t begin) {
  std::vector<int32_t> out;
  const Tensor host = tokens.to(Device{}).contiguous();
  const int64_t time = host.size(1);
  for (const int64_t row : rows)
    out.insert(out.end(), host.data<int32_t>() + row * time + begin,
               host.data<int32_t>() + (row + 1) * time);
  return Tensor::from<int32_t>({int64_t(rows.size()), time - begin}, out);
}

// The entries of all groups in the order of the batch.
Variable in_order(const std::vector<std::pair<std::vector<int64_t>, Variable>>& parts,
                  int64_t batch) {
  if (parts.size() == 1) return parts[0].second;
  std::vector<Variable> entries(static_cast<size_t>(batch));
  for (const auto& [rows, values] : parts)
    for (size_t i = 0; i < rows.size(); ++i)
      entries[size_t(rows[i])] = slice(values, 0, int64_t(i), int64_t(i) + 1);
  return concat(entries, 0);
}

}  // namespace

Variable ExplainedModel::memory_of_records(const Tensor& tokens) {
  std::vector<std::pair<std::vector<int64_t>, Variable>> parts;
  for (const Group& g : groups_of(tokens)) {
    const auto count = int64_t(g.rows.size());
    // Nothing is written of a record without a point, so its text need not be read.
    const bool reads = g.length > 0 && g.point < tokens.size(1);
    parts.emplace_back(g.rows, reads ? memory_of(Tensor::from<int32_t>({count, g.length}, g.texts))
                                     : clean_memory(count));
  }
  return in_order(parts, tokens.size(0));
}

Variable ExplainedModel::hidden(const Tensor& tokens, SequenceState* state) {
  require(!state || !state->use_cache,
          "a decoder of memories does not decode with a cache; run it over the whole record");
  return hidden_with(tokens, memory_of_records(tokens));
}

Variable ExplainedModel::hidden_with(const Tensor& tokens, const Variable& memory) {
  const int64_t time = tokens.size(1), features = head().size(1);
  require(time <= options_.block_size,
          "the record reaches {} tokens, the model's block_size is {}: raise $.model.block_size",
          time, options_.block_size);
  std::vector<std::pair<std::vector<int64_t>, Variable>> parts;
  for (const Group& g : groups_of(tokens)) {
    const auto count = int64_t(g.rows.size());
    const auto before = [&](int64_t rows) {
      return Variable(Tensor::zeros({count, rows, features}, dtype_, device_));
    };
    if (g.point == time) {
      parts.emplace_back(g.rows, before(time));
      continue;
    }
    std::vector<Variable> own;
    for (const int64_t row : g.rows) own.push_back(slice(memory, 0, row, row + 1));
    const Variable written = decoder_->forward(count == memory.size(0) ? memory : concat(own, 0),
                                               rows_from(tokens, g.rows, g.point).to(device_));
    parts.emplace_back(g.rows, g.point == 0 ? written : concat({before(g.point), written}, 1));
  }
  return in_order(parts, tokens.size(0));
}

Variable ExplainedModel::loss(const Tensor& tokens, const Tensor& targets, double weight_per_target,
                              SequenceState* state) {
  const Columns read = up_to_last_target(tokens, targets);
  return LanguageModel::loss(read.tokens, read.targets, weight_per_target, state);
}

std::vector<std::vector<int32_t>> ExplainedModel::write(const Variable& memory,
                                                        int64_t most_tokens) {
  const NoGrad no_grad;
  const auto count = static_cast<size_t>(memory.size(0));
  const ExampleLayout layout = marks();
  std::vector<std::vector<int32_t>> texts(count, {layout.end_think()});
  std::vector<bool> ended(count, false);
  const int64_t most = std::min(most_tokens, options_.block_size - 1);
  for (int64_t i = 0; i < most && std::find(ended.begin(), ended.end(), false) != ended.end();
       ++i) {
    std::vector<int32_t> all;
    for (const auto& text : texts) all.insert(all.end(), text.begin(), text.end());
    const Variable hidden =
        decoder_->forward(memory, Tensor::from<int32_t>({int64_t(count), i + 1}, all).to(device_));
    const std::vector<double> logits = logits_of(slice(hidden, 1, i, i + 1)).tensor().to_vector();
    for (size_t n = 0; n < count; ++n) {
      const auto row = logits.begin() + std::ptrdiff_t(n) * options_.vocab_size;
      const auto token = int32_t(std::max_element(row, row + options_.vocab_size) - row);
      ended[n] = ended[n] || token == layout.end();
      texts[n].push_back(ended[n] ? layout.end() : token);
    }
  }
  for (auto& text : texts) {
    text.erase(text.begin());
    text.erase(std::find(text.begin(), text.end(), layout.end()), text.end());
  }
  return texts;
}

double ExplainedModel::forward_flops_per_token(int64_t length) const {
  return decoder_->forward_flops_per_token(length) +
         (options_.reads == "nothing"
              ? 0
              : base_->forward_flops_per_token(std::min(length, base_->block_size())));
}

std::string ExplainedModel::reads_in_words() const {
  const std::string what = options_.reads == "memory"        ? "memory"
                           : options_.reads == "final_state" ? "final hidden state"
                                                             : "nothing";
  return fmt::format("{}, {} rows of {} features", what, decoder_->shape().rows,
                     decoder_->shape().features);
}

std::string explained_base_hash(const std::string& base) {
  return load_run(base).model->weights_hash();
}

}  // namespace reverie
