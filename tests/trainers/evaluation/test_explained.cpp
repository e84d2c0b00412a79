// A frozen run and a decoder of its memory: what is trained and saved, the gate, the refusals, and the
// figures beside their controls.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>

#include "autograd/ops/elementwise.h"
#include "autograd/ops/shape.h"
#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/profile.h"
#include "core/signals.h"
#include "core/storage.h"
#include "layers/coprocessor/augmented_model.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"
#include "support/tests_directory.h"
#include "support/tiny_models.h"
#include "trainers/evaluation/explained_canary.h"
#include "trainers/evaluation/run_data.h"
#include "trainers/evaluation/written_figures.h"
#include "trainers/generation/explanation.h"
#include "trainers/probes/forward_audit.h"
#include "trainers/runs/checkpoint.h"
#include "trainers/runs/stored_run.h"
#include "trainers/training/monitored_trainer.h"

namespace reverie {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::MonitoredTrainer;
using testing::TemporaryDirectory;

const Json kDelta = {{"type", "delta_rule"}, {"heads", 1}, {"carry_state", true}};

class ExplainedTest : public ::testing::Test {
 protected:
  Json experiment(const Json& patch) const {
    Json all = parse_json(R"({"seed": 7,
      "data": {"generated": {"type": "tracking", "window": 20, "windows": 3, "stories": 1, "distractors": 1,
        "people": 6, "rooms": 4, "distances": [1, 2], "documents": 60, "validation_documents": 12,
        "test_documents": 4}},
      "model": {"type": "llama", "block_size": 20, "n_layer": 2, "n_head": 2, "n_embd": 16},
      "train": {"steps": 4, "batch_size": 4, "windows": 3},
      "evaluation": {"interval": 0, "windows": 6, "prefix_only_windows": 1, "final_windows": 6, "final_prefix_only_windows": 1},
      "sample": {"interval": 0, "tokens": 0}, "checkpoint": {"interval": 0}})");
    if (!patch.value("model", Json::object()).contains("memory")) all["model"]["memory"] = kDelta;
    all.merge_patch(patch);
    return prepared_apart(all);
  }
  // Other data have another directory.
  Json prepared_apart(Json all) const {
    all["data"].erase("prepared_directory");
    const std::string data = all["data"].dump();
    all["data"]["prepared_directory"] =
        directory_ / ("tokens-" + hash_bytes(data.data(), data.size()).substr(0, 8));
    return all;
  }
  // A decoder of `base`; patches of model and data.
  Json decoder(const std::string& base, const Json& patch = Json::object()) const {
    Json all = experiment({{"data", {{"examples", {{"form", "facts"}, {"tokens", 12}}}}}});
    all["model"] = {{"type", "explained"},
                    {"base", directory_ / base},
                    {"block_size", 60 + 12 + 3},
                    {"decoder", {{"n_layer", 1}, {"n_embd", 16}}}};
    all["train"] = {{"steps", 4}, {"batch_size", 4}};
    all.merge_patch(patch);
    return prepared_apart(all);
  }
  void train(const std::string& name, const Json& json, bool resume = false) const {
    RunControl control;
    control.run_directory = directory_ / name;
    control.resume = resume;
    MonitoredTrainer trainer(read_experiment(Config(json, "$"), directory_.path()), control);
    trainer.run();
  }
  void train_base(const Json& patch = Json::object()) const { train("base", experiment(patch)); }
  LoadedRun load(const std::string& name) const { return load_run(directory_ / name); }
  std::string refused(const Json& json) const {
    return message_of<UserError>([&] { train("refused", json); });
  }

  TemporaryDirectory directory_;
  SignalGuard signals_;
};

TEST_F(ExplainedTest, TheBaseIsNeitherTrainedNorSaved) {
  train_base();
  const std::string before = load("base").model->weights_hash();
  train("decoder", decoder("base"));
  EXPECT_EQ(load("base").model->weights_hash(), before);
  const auto saved = read_latest_checkpoint(directory_ / "decoder");
  ASSERT_TRUE(saved);
  int64_t count = 0;
  for (const auto& [name, tensor] : saved->contents.model) {
    EXPECT_TRUE(name.starts_with("decoder.")) << name;
    count += tensor.numel();
  }
  LoadedRun run = load("decoder");
  auto& model = dynamic_cast<ExplainedModel&>(*run.model);
  EXPECT_EQ(model.parameter_count(), count);
  EXPECT_EQ(model.base_hash(), before);
  EXPECT_EQ(model.options().base_hash, before) << "the run keeps it";
  EXPECT_EQ(model.reads_in_words(), "memory, 32 rows of 16 features");
  EXPECT_FALSE(run.verdict.leaks());
  EXPECT_THAT(json_text(run.verdict.json()),
              AllOf(HasSubstr("the memory held fixed"), HasSubstr("the memory given, against")));
  const Json summary = read_summary(directory_ / "decoder");
  EXPECT_LT(summary.at("val_loss").get<double>(), 4);
}

TEST_F(ExplainedTest, ResumedIsTheSameToTheBit) {
  train_base();
  train("whole", decoder("base"));
  Json shorter = decoder("base");
  shorter["train"]["steps"] = 2;
  train("parts", shorter);
  train("parts", decoder("base"), true);
  EXPECT_EQ(load("parts").model->weights_hash(), load("whole").model->weights_hash());
}

// The memory is that of the base itself, read window by window.
TEST_F(ExplainedTest, ReadsTheMemoryThatTheBaseWouldCarry) {
  train_base();
  train("decoder", decoder("base"));
  const LoadedRun base = load("base"), run = load("decoder");
  auto& model = dynamic_cast<ExplainedModel&>(*run.model);
  const NoGrad no_grad;
  const Tensor text = testing::random_tokens(2, 47, 20);
  SequenceState state;
  for (const auto& [begin, end] : {std::pair{0, 20}, {20, 40}, {40, 47}})
    base.model->hidden(text.slice(1, begin, end).contiguous(), &state);
  const auto rows = dynamic_cast<Transformer&>(*base.model).memory()->readable(state.memory, 2);
  const Tensor memory = model.memory_of(text).tensor();
  ASSERT_EQ(rows.size(), 2u);
  for (int64_t layer = 0; layer < 2; ++layer)
    EXPECT_EQ(
        testing::largest_difference(memory.slice(1, 16 * layer, 16 * (layer + 1)).contiguous(),
                                    rows[size_t(layer)].tensor().contiguous()),
        0);
}

TEST_F(ExplainedTest, TextsOfOneBatchMayBeCutAnywhere) {
  train_base();
  train("decoder", decoder("base"));
  const LoadedRun run = load("decoder");
  auto& model = dynamic_cast<ExplainedModel&>(*run.model);
  const NoGrad no_grad;
  const ExampleLayout marks = model.marks();
  Tensor records = testing::random_tokens(4, 30, 15);
  const std::vector<int64_t> points = {7, 22, 7, 0};
  for (int64_t r = 0; r < 4; ++r)
    records.mutable_data<int32_t>()[r * 30 + points[size_t(r)]] = marks.end_think();
  const Tensor together = model.hidden(records, nullptr).tensor();
  for (int64_t r = 0; r < 4; ++r) {
    const Tensor one = records.slice(0, r, r + 1).contiguous(),
                 alone = model.hidden(one, nullptr).tensor();
    EXPECT_LT(testing::largest_difference(together.slice(0, r, r + 1).contiguous(), alone), 1e-5);
    for (const double x : alone.slice(1, 0, points[size_t(r)]).contiguous().to_vector())
      EXPECT_EQ(x, 0) << "nothing is written before the point";
  }
}

// Lets the text before the point into what is written.
class ReadingModel final : public ExplainedModel {
 public:
  using ExplainedModel::ExplainedModel;
  Variable hidden_with(const Tensor& tokens, const Variable& memory) override {
    const Variable honest = ExplainedModel::hidden_with(tokens, memory);
    const double seen = 1e-3 * double(tokens.data<int32_t>()[3]);
    return add(honest, Variable(Tensor::full(honest.shape(), seen, honest.dtype())));
  }
};

TEST_F(ExplainedTest, TheGateSeesADecoderThatReadsTheText) {
  train_base();
  train("decoder", decoder("base"));
  LoadedRun run = load("decoder");
  const Dataset data = prepare_and_open(run.options.data);
  const auto windows = EvaluationWindows::of_examples(data.validation, *data.examples, 4, 8);
  const Tensor records = windows.batch(0).tokens, donors = windows.batch(1).tokens;
  auto& honest = dynamic_cast<ExplainedModel&>(*run.model);
  for (const bool train : {false, true})
    EXPECT_FALSE(ask_memory_alone(honest, records, donors, {0, 0, 0, train}).leaks());
  Generator random(1);
  ReadingModel reads(component_options<ExplainedOptions>(run.options.model), Build{random});
  const Verdict verdict = ask_memory_alone(reads, records, donors, {});
  EXPECT_TRUE(verdict.leaks());
  EXPECT_THAT(verdict.line(), HasSubstr("the memory held fixed"));
}

TEST_F(ExplainedTest, ARetrainedBaseIsRefused) {
  train_base();
  train("decoder", decoder("base"));
  const std::string before = load("base").model->weights_hash();
  std::filesystem::remove_all(directory_ / "base");
  train_base({{"seed", 8}});
  const std::string now = load("base").model->weights_hash();
  EXPECT_THAT(message_of<UserError>([&] { load("decoder"); }),
              AllOf(HasSubstr("was retrained or replaced"), HasSubstr(before), HasSubstr(now),
                    HasSubstr(directory_ / "base"), HasSubstr("train a new decoder")));
  EXPECT_THAT(message_of<ConfigError>([&] { train("decoder", decoder("base"), true); }),
              AllOf(HasSubstr("base_hash"), HasSubstr(before), HasSubstr(now)));
}

// Found in the base after its decoder was trained, or before.
TEST_F(ExplainedTest, ALeakOfTheBaseIsOneOfItsDecoder) {
  train_base();
  train("decoder", decoder("base"));
  EXPECT_FALSE(load("decoder").verdict.leaks());
  Verdict leak;
  leak.add({"other tokens behind the cut", "position 3", 1.0, 1e-6, 4});
  keep_leak(directory_ / "base", leak);
  const Verdict verdict = load("decoder").verdict;
  EXPECT_TRUE(verdict.leaks());
  EXPECT_THAT(verdict.line(),
              AllOf(HasSubstr("the base"), HasSubstr("other tokens behind the cut")));
  EXPECT_EQ(verdict.label_at(1), kLeakLabel);
  // What tables and pages read.
  EXPECT_EQ(read_summary(directory_ / "decoder").at("label"), kLeakLabel);
  EXPECT_THAT(refused(decoder("base")), HasSubstr("the base"));
  EXPECT_FALSE(std::filesystem::exists(directory_ / "refused"));
  train("allowed", decoder("base", {{"allow_future_leak", true}}));
  EXPECT_EQ(read_summary(directory_ / "allowed").at("label"), kLeakLabel);
}

// The base is a run, which its checkpoints name as others name published files.
TEST_F(ExplainedTest, ASelfContainedDecoderOpensWithoutItsBase) {
  train_base();
  const std::string base = load("base").model->weights_hash();
  train("whole", decoder("base"));
  EXPECT_EQ(read_latest_checkpoint(directory_ / "whole")
                ->contents.state.at("base")
                .at("weights_hash")
                .get<std::string>(),
            base);
  const std::string whole = load("whole").model->weights_hash();
  Json contained = decoder("base");
  contained["checkpoint"]["self_contained"] = true;
  train("decoder", contained);
  std::filesystem::rename(directory_ / "base", directory_ / "moved");
  EXPECT_THAT(message_of<DataError>([&] { load("whole"); }),
              AllOf(HasSubstr("is not there"), HasSubstr(directory_ / "base"), HasSubstr(base)));
  LoadedRun run = load("decoder");
  EXPECT_EQ(run.model->weights_hash(), whole);
  EXPECT_EQ(dynamic_cast<ExplainedModel&>(*run.model).base_hash(), base);
  EXPECT_EQ(read_summary(directory_ / "decoder").at("val_loss"),
            read_summary(directory_ / "whole").at("val_loss"));
}

TEST_F(ExplainedTest, WhatHasNoStateToReadIsRefused) {
  train_base({{"model", {{"memory", nullptr}}}});
  EXPECT_THAT(refused(decoder("base")),
              AllOf(HasSubstr("has no memory module and no latents"), HasSubstr("final_state")));
  train("decoder", decoder("base", {{"model", {{"reads", "final_state"}}}}));
  EXPECT_EQ(dynamic_cast<ExplainedModel&>(*load("decoder").model).reads_in_words(),
            "final hidden state, 1 rows of 16 features");
  train("alone", decoder("base", {{"model", {{"reads", "nothing"}}}}));
  for (const char* name : {"decoder", "alone"})
    EXPECT_EQ(parse_json(read_file(directory_ / name + "/audit.json")).at("without_gradient"),
              Json::array());
  train("tokens",
        experiment({{"model", {{"memory", {{"type", "recurrent_tokens"}, {"count", 2}}}}}}));
  EXPECT_THAT(refused(decoder("tokens")), HasSubstr("exposes no state that could be read"));
  Json itself = decoder("decoder");
  EXPECT_THAT(refused(itself), HasSubstr("is itself a decoder"));
}

// Latents are made of the whole text at once; the decoder reads them as it reads a memory.
TEST_F(ExplainedTest, LatentsOfAnAugmentedRunAreRead) {
  std::string text;
  for (int i = 0; i < 200; ++i)
    text += fmt::format("The {}. line of a made-up text.\n", i * i % 97);
  write_file_atomically(directory_ / "text.txt", text);
  const Json data = {{"generated", nullptr}, {"path", directory_ / "text.txt"}};
  const Json latents = {{"type", "augmented"},
                        {"base", testing::test_directory() + "/golden/pretrained/llama"},
                        {"latents", {{"type", "coprocessor"}, {"count", 3}}},
                        {"block_size", 20},
                        {"ahead", 2}};
  Json base = experiment({{"data", data}, {"train", {{"windows", 1}}}});
  base["model"] = latents;
  train("base", base);
  Json json = decoder("base", {{"data", data}, {"model", {{"block_size", 30}}}});
  json["data"]["examples"] = {{"form", "recount"}, {"read", 18}, {"tokens", 4}};
  train("decoder", json);
  const LoadedRun run = load("decoder"), of_base = load("base");
  auto& model = dynamic_cast<ExplainedModel&>(*run.model);
  EXPECT_EQ(model.reads_in_words(), "memory, 3 rows of 16 features");
  const NoGrad no_grad;
  const Tensor tokens = testing::random_tokens(2, 18, 20);
  EXPECT_EQ(
      testing::largest_difference(model.memory_of(tokens).tensor(),
                                  dynamic_cast<AugmentedModel&>(*of_base.model)
                                      .latents_for(tokens, Tensor::full({2, 1}, 18, DType::i32))
                                      .tensor()
                                      .contiguous()),
      0);
  // A longer text leaves the memory of its last block.
  const Tensor longer = testing::random_tokens(2, 26, 20);
  EXPECT_EQ(
      testing::largest_difference(model.memory_of(longer).tensor(),
                                  model.memory_of(longer.slice(1, 6, 26).contiguous()).tensor()),
      0);
}

TEST_F(ExplainedTest, WhatDoesNotFitTheBaseIsRefused) {
  train_base();
  EXPECT_THAT(refused(decoder("base", {{"model", {{"layers", {0, 2}}}}})),
              AllOf(HasSubstr("names layer 2"), HasSubstr("has 2")));
  EXPECT_THAT(refused(decoder("base", {{"data", {{"examples", nullptr}}}})),
              HasSubstr("$.data.examples.form is none"));
  EXPECT_THAT(refused(decoder("base", {{"data", {{"generated", {{"rooms", 5}}}}}})),
              HasSubstr("tokenised otherwise"));
  EXPECT_THAT(refused(decoder("base", {{"model", {{"block_size", 40}}}})),
              HasSubstr("the longest example takes 75 rows, but the model's block_size is 40"));
  EXPECT_THAT(refused(decoder("nowhere")), HasSubstr("nowhere"));
  train("layer", decoder("base", {{"model", {{"layers", {1}}}}}));
  EXPECT_EQ(dynamic_cast<ExplainedModel&>(*load("layer").model).reads_in_words(),
            "memory, 16 rows of 16 features");
}

// ---- beside the run ------------------------------------------------------------------------------

// Logits of a text that is read and continued token by token, the kernels that ran for it, and the
// most memory that it took besides what was there.
struct Decoded {
  std::vector<std::vector<double>> logits;
  std::map<std::string, int64_t> kernels;
  size_t bytes = 0;
  bool operator==(const Decoded&) const = default;
};

Decoded decode(LanguageModel& model, const Tensor& text) {
  const NoGrad no_grad;
  Decoded out;
  allocator(Device{}).reset_peak();
  const size_t before = allocator(Device{}).stats().in_use;
  profile::start();
  SequenceState state;
  state.use_cache = true;
  for (int64_t t = 0; t < text.size(1); ++t)
    out.logits.push_back(
        model.logits(text.slice(1, t, t + 1).contiguous(), &state).tensor().to_vector());
  for (const profile::Event& event : profile::stop())
    if (event.kind == profile::Kind::kernel) ++out.kernels[std::string(event.name)];
  out.bytes = allocator(Device{}).stats().peak - before;
  return out;
}

// A decoder that is off the path leaves the run's logits, kernels and memory as they are.
TEST_F(ExplainedTest, ARunWithoutTheFlagKnowsNothingOfItsDecoder) {
  train_base();
  const UsableModel base = open_model(directory_ / "base");
  const Tensor text = testing::random_tokens(1, 20, 20);
  decode(*base.model, text);  // threads have their scratch from here on
  const Decoded plain = decode(*base.model, text);
  EXPECT_EQ(plain.logits.size(), 20u);
  EXPECT_GT(plain.kernels.size(), 3u);
  EXPECT_GT(plain.bytes, 0u);
  EXPECT_EQ(decode(*base.model, text), plain) << "the measurement itself repeats";

  train("decoder", decoder("base"));
  EXPECT_EQ(decode(*base.model, text), plain);
  const std::vector<int32_t> prompt(text.data<int32_t>(), text.data<int32_t>() + 20);
  const Explanation explanation = explain(base, prompt, directory_ / "decoder", "");
  EXPECT_EQ(decode(*base.model, text), plain);
  // Beside a decoder that is loaded and has just written; and a fresh copy of the run.
  const LoadedRun loaded = load("decoder");
  EXPECT_EQ(dynamic_cast<ExplainedModel&>(*loaded.model).memory_of(text).tensor().numel(), 32 * 16);
  EXPECT_EQ(decode(*base.model, text), plain);
  EXPECT_EQ(decode(*open_model(directory_ / "base").model, text), plain);
  // The count does see a decoder that runs.
  profile::start();
  explain(base, prompt, directory_ / "decoder", "");
  const std::vector<profile::Event> events = profile::stop();
  EXPECT_GT(std::ranges::count(events, profile::Kind::kernel, &profile::Event::kind), 100);
}

TEST_F(ExplainedTest, ATextUnlikeThoseOfItsTrainingIsLabelled) {
  train_base();
  train("decoder", decoder("base"));
  const UsableModel base = open_model(directory_ / "base");
  const auto explained = [&](size_t length) {
    return explain(base, std::vector<int32_t>(length, 3), directory_ / "decoder", "");
  };
  const Explanation fits = explained(60), shorter = explained(26);
  EXPECT_EQ(fits.unlike_training(), "");
  EXPECT_FALSE(fits.json().contains("label"));
  EXPECT_EQ(fits.json().at("trained_lengths"), Json({60, 60}));
  EXPECT_EQ(shorter.unlike_training(), "the decoder was trained on texts of 60 tokens");
  EXPECT_THAT(shorter.text(), HasSubstr("after 26 tokens; UNLIKE ITS TRAINING: the decoder was"));
  EXPECT_EQ(shorter.json().at("label"), shorter.unlike_training());
}

TEST(ReadLengths, AreThoseOfTheRecords) {
  const auto lengths = [](const Json& data) {
    DataOptions options;
    read_config(Config(data, "$.data"), options);
    const ReadLengths found = read_lengths(options);
    return std::pair{found.least, found.most};
  };
  Json tracking = parse_json(
      R"({"generated": {"type": "tracking", "window": 20, "windows": 3, "stories": 1, "distractors": 1},
                                 "examples": {"form": "facts"}})");
  EXPECT_EQ(lengths(tracking), std::pair(int64_t(60), int64_t(60)));
  tracking["examples"]["read"] = 40;
  EXPECT_EQ(lengths(tracking), std::pair(int64_t(40), int64_t(40)));
  tracking["examples"]["form"] = "steps";
  EXPECT_EQ(lengths(tracking), std::pair(int64_t(1), int64_t(60)));
  EXPECT_EQ(lengths({{"path", "a.txt"}, {"examples", {{"form", "recount"}}}}),
            std::pair(int64_t(64), int64_t(64)));
  EXPECT_EQ(lengths({{"path", "a.txt"}}), std::pair(int64_t(1), int64_t(0)));
}

// ---- figures ------------------------------------------------------------------------------------

TEST_F(ExplainedTest, FiguresAreThoseOfRecordsOneByOne) {
  train_base();
  train("decoder", decoder("base"));
  const LoadedRun run = load("decoder");
  auto& model = dynamic_cast<ExplainedModel&>(*run.model);
  const Dataset data = prepare_and_open(run.options.data);
  const WrittenMeasurement m = measure_written(model, data, 0, 5);
  EXPECT_EQ(m.records(), 12);
  EXPECT_TRUE(m.facts);
  EXPECT_EQ(m.pieces, 24) << "two facts of six words each";
  EXPECT_EQ(m.all_words(), 12 * 12);
  ASSERT_EQ(m.memories.size(), 3u);
  // One record alone: the mean of its words' losses, marks left out, with the memory of another.
  const NoGrad no_grad;
  const auto windows = EvaluationWindows::of_examples(data.validation, *data.examples, 1, 0);
  const int64_t n = 4;
  const Batch record = windows.batch(n), other = windows.batch((n + 6) % 12);
  Tensor words = record.targets.clone();
  for (int64_t t = 0; t < words.numel(); ++t)
    if (words.data<int32_t>()[t] >= data.examples->first_mark)
      words.mutable_data<int32_t>()[t] = kIgnoredTarget;
  const auto loss_with = [&](const Variable& memory) {
    return model.loss_of(model.hidden_with(record.tokens, memory), words, 1.0).tensor().item();
  };
  EXPECT_NEAR(m.memories[0].losses[n], loss_with(model.memory_of_records(record.tokens)), 1e-3);
  EXPECT_NEAR(m.memories[1].losses[n], loss_with(model.memory_of_records(other.tokens)), 1e-3);
  EXPECT_NEAR(m.memories[2].losses[n], loss_with(model.clean_memory(1)), 1e-3);
  EXPECT_EQ(WrittenMeasurement::from_json(m.json()).json(), m.json());
  EXPECT_THROW(WrittenMeasurement::from_json(Json::object()), DataError);
}

// Each word reads the next one where so many records stand side by side.
class PeekingModel final : public ExplainedModel {
 public:
  PeekingModel(const ExplainedOptions& options, const Build& build, int64_t records)
      : ExplainedModel(options, build), records_(records) {}
  Variable hidden_with(const Tensor& tokens, const Variable& memory) override {
    const Variable honest = ExplainedModel::hidden_with(tokens, memory);
    const int64_t rows = honest.size(0), time = honest.size(1);
    if (rows != records_ || time < 2) return honest;
    return add(honest, concat({slice(honest, 1, 1, time),
                               Variable(Tensor::zeros({rows, 1, honest.size(2)}, honest.dtype()))},
                              1));
  }

 private:
  int64_t records_;
};

TEST_F(ExplainedTest, ForwardsOfTheMeasurementAreAudited) {
  train_base();
  train("decoder", decoder("base"));
  train("alone", decoder("base", {{"model", {{"reads", "nothing"}}}}));
  const LoadedRun run = load("decoder"), alone = load("alone");
  const Dataset data = prepare_and_open(run.options.data);
  const auto audited = [&](ExplainedModel& model) {
    ForwardAudit audit = ForwardAudit::once(4);
    const WrittenMeasurement m = measure_written(model, data, 0, 5, {}, &audit);
    EXPECT_EQ(m.json(), measure_written(model, data, 0, 5).json()) << "the figures stay";
    return audit.verdict();
  };
  const Verdict honest = audited(dynamic_cast<ExplainedModel&>(*run.model));
  EXPECT_TRUE(honest.causal()) << honest.line();
  ASSERT_EQ(honest.probed().size(), 3u);
  for (size_t i = 0; i < 3; ++i)
    EXPECT_THAT(honest.probed()[i],
                AllOf(HasSubstr(std::vector<std::string>{"own", "swapped", "wiped"}[i] + " memory"),
                      HasSubstr("a copy that saw a prefix"), HasSubstr("windows of the base's")));
  const Verdict without = audited(dynamic_cast<ExplainedModel&>(*alone.model));
  EXPECT_TRUE(without.causal()) << without.line();
  EXPECT_EQ(without.probed().size(), 1u);
  // Twelve records: two batches of five, and a last one of two.
  for (const int64_t records : {5, 2}) {
    Generator random(1);
    PeekingModel peeks(component_options<ExplainedOptions>(run.options.model), Build{random},
                       records);
    const Verdict verdict = audited(peeks);
    EXPECT_TRUE(verdict.leaks()) << records;
    EXPECT_THAT(verdict.line(), HasSubstr(fmt::format("{} x 75 tokens", records)));
  }
}

// A memory that decides what is written is put into words, and another text's gives other words.
TEST_F(ExplainedTest, LearnsToWriteWhatTheMemoryHolds) {
  // The last rows of a short cache hold the last words themselves.
  train_base(
      {{"model",
        {{"memory",
          {{"type", "attention_cache"}, {"length", 8}, {"heads", 2}, {"carry_state", true}}}}}});
  Json recount =
      decoder("base", {{"data",
                        {{"examples", {{"form", "recount"}, {"tokens", 6}, {"read", 33}}},
                         {"generated", {{"documents", 600}}}}},
                       {"model", {{"block_size", 45}}},
                       {"train", {{"steps", 400}, {"batch_size", 16}}},
                       {"optimizer", {{"learning_rate", 0.01}, {"warmup_steps", 10}}}});
  train("decoder", recount);
  const LoadedRun run = load("decoder");
  auto& model = dynamic_cast<ExplainedModel&>(*run.model);
  const WrittenMeasurement m = measure_written(model, prepare_and_open(run.options.data), 0, 12);
  EXPECT_FALSE(m.facts);
  EXPECT_LT(m.loss(0) + 0.2, m.loss(1));
  EXPECT_TRUE(change_of_losses(m, m.memories[0].losses, m.memories[1].losses).rises());
  EXPECT_GT(m.memories[0].right, m.memories[1].right);
}

}  // namespace
}  // namespace reverie
