// Runs beside a frozen base: what their checkpoints hold, how they resume, and what happens where the
// base has changed, was moved or removed.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/safetensors.h"
#include "core/signals.h"
#include "layers/frozen_base.h"
#include "layers/pretrained/load.h"
#include "layers/weights_hash.h"
#include "support/message_of.h"
#include "support/temporary_directory.h"
#include "support/tests_directory.h"
#include "trainers/distributed/ranks.h"
#include "trainers/exporting/hugging_face.h"
#include "trainers/runs/base_files.h"
#include "trainers/runs/checkpoint_weights.h"
#include "trainers/runs/resumption.h"
#include "trainers/runs/run_directory.h"
#include "trainers/runs/stored_run.h"
#include "trainers/runs/trained_state.h"
#include "trainers/training/monitored_trainer.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;
using ::testing::AllOf;
using ::testing::HasSubstr;
using testing::message_of;
using testing::MonitoredTrainer;
using testing::TemporaryDirectory;

constexpr const char* kCoprocessor =
    R"({"type": "augmented", "latents": {"type": "coprocessor", "count": 2}, "block_size": 16, "groups": 4, "ahead": 4})";

class FrozenBaseTest : public ::testing::Test {
 protected:
  FrozenBaseTest() {
    std::ofstream text(directory_ / "text.txt");
    for (int i = 0; i < 300; ++i)
      text << "The " << i << ". line of a made-up text, to be learnt.\n";
    text.close();
    fs::copy(testing::test_directory() + "/golden/pretrained/llama", base_);
  }
  // Of a model beside the base, wherever its config names that.
  ExperimentOptions experiment(const std::string& model = kCoprocessor, const Json& patch = {}) {
    Json all = parse_json(
        R"({"seed": 7, "train": {"steps": 6, "batch_size": 4}, "optimizer": {"learning_rate": 0.01},
      "evaluation": {"interval": 0, "windows": 4, "prefix_only_windows": 2, "final_windows": 4, "final_prefix_only_windows": 2},
      "sample": {"interval": 0, "tokens": 0}, "checkpoint": {"interval": 2, "keep": 0}})");
    all["data"] = {{"path", directory_ / "text.txt"},
                   {"prepared_directory", directory_ / "tokens"}};
    all["model"] = parse_json(model);
    all["model"][all["model"]["type"] == "pretrained" ? "path" : "base"] = base_;
    if (!patch.is_null()) all.merge_patch(patch);
    return read_experiment(Config(all, "$"), ".");
  }
  RunControl control(const std::string& name, bool resume = false,
                     std::optional<int64_t> stop_after = {}) {
    RunControl c;
    c.run_directory = directory_ / name;
    c.resume = resume;
    c.stop_after = stop_after;
    return c;
  }
  void train(const std::string& name, const ExperimentOptions& options, bool resume = false,
             std::optional<int64_t> stop_after = {}) {
    MonitoredTrainer(options, control(name, resume, stop_after)).run();
  }
  StoredCheckpoint newest(const std::string& name) {
    return read_latest_checkpoint(directory_ / name).value();
  }
  LoadedRun load(const std::string& name) { return load_run(directory_ / name); }
  size_t bytes(const std::string& name) {
    return fs::file_size(newest(name).directory + "/model.safetensors");
  }
  // Another first weight of the base's token table.
  void change_base() {
    const std::string file = base_ + "/model.safetensors";
    NamedTensors all = read_safetensors(file).tensors;
    for (auto& [name, tensor] : all) tensor = tensor.clone();
    all[0].second.mutable_data<float>()[0] += 0.5f;
    write_safetensors(file, all, {{"format", "pt"}});
  }
  // As earlier versions wrote it: with every weight, and no word of the base.
  void hold_all_weights(const std::string& name) {
    StoredCheckpoint stored = newest(name);
    CheckpointContents& c = stored.contents;
    const auto base = load_pretrained(base_).model;
    NamedTensors all;
    for (const auto& [own, tensor] : base->state()) all.emplace_back("base." + own, tensor);
    for (const auto& named : c.model) all.push_back(named);
    c.model = all;
    c.state.erase(kBaseKey);
    write_checkpoint(directory_ / name, c.state.at("step"), c, 0);
  }
  void expect_same_run(const std::string& a, const std::string& b) {
    const StoredCheckpoint x = newest(a), y = newest(b);
    EXPECT_EQ(hash_of_weights(x.contents.model), hash_of_weights(y.contents.model));
    EXPECT_EQ(hash_of_weights(x.contents.optimizer), hash_of_weights(y.contents.optimizer));
    EXPECT_EQ(load(a).model->weights_hash(), load(b).model->weights_hash());
    EXPECT_EQ(read_summary(directory_ / a).at("val_loss"),
              read_summary(directory_ / b).at("val_loss"));
  }

  TemporaryDirectory directory_;
  const std::string base_ = directory_ / "base";
  SignalGuard signals_;
};

struct Kind {
  const char *name, *model, *prefix;
};
class EveryKind : public FrozenBaseTest, public ::testing::WithParamInterface<Kind> {};

TEST_P(EveryKind, SavesWhatIsTrainedAndResumesToTheBit) {
  const std::string hash = load_pretrained(base_).model->weights_hash();
  train("whole", experiment(GetParam().model));
  train("parts", experiment(GetParam().model), false, 3);
  train("parts", experiment(GetParam().model), true);
  expect_same_run("whole", "parts");
  const StoredCheckpoint stored = newest("whole");
  const Json& record = stored.contents.state.at(kBaseKey);
  EXPECT_EQ(record.at("path"), base_);
  EXPECT_EQ(record.at("weights_hash"), hash);
  EXPECT_EQ(stored.contents.model_metadata.at("base_weights_hash"), hash);
  // Each tensor of the base is missing, and nothing else is.
  LoadedRun run = load("whole");
  EXPECT_EQ(record.at("tensors").get<size_t>() + stored.contents.model.size(),
            run.model->state().size());
  const FrozenBase& base = *frozen_base_of(*run.model);
  EXPECT_EQ(base.prefix, GetParam().prefix);
  EXPECT_EQ(weights_beside(base, stored.contents.model).size(), stored.contents.model.size());
  EXPECT_EQ(hash_of_weights(base_weights(base, run.model->state())), hash);
}

INSTANTIATE_TEST_SUITE_P(
    Models, EveryKind,
    ::testing::Values(
        Kind{"coprocessor", kCoprocessor, "base."},
        Kind{
            "lora",
            R"({"type": "augmented", "latents": {"type": "coprocessor", "initial": "lora", "rank": 2, "count": 2},
        "block_size": 16, "groups": 4, "ahead": 4})",
            "base."},
        Kind{
            "cache",
            R"({"type": "augmented", "latents": {"type": "coprocessor", "writes": "cache", "initial": "scratch", "count": 2},
        "block_size": 16, "groups": 4, "ahead": 4})",
            "base."},
        Kind{
            "icae",
            R"({"type": "augmented", "latents": {"type": "icae", "count": 2, "rank": 2}, "block_size": 16, "groups": 4, "ahead": 4})",
            "base."},
        Kind{"low_rank", R"({"type": "pretrained", "block_size": 16, "rank": 2})", ""}),
    [](const auto& info) { return info.param.name; });

TEST_F(FrozenBaseTest, ACheckpointIsSmallerByTheBase) {
  const std::string soft =
      R"({"type": "augmented", "latents": {"type": "soft_embeddings", "count": 2}, "block_size": 16, "groups": 4, "ahead": 4})";
  train("run", experiment(soft));
  const size_t named = bytes("run");
  hold_all_weights("run");
  EXPECT_GE(bytes("run"), named + 26560);  // the base's bytes
  EXPECT_LT(named, 2048u);                 // two rows of 16 numbers, and a header
}

TEST_F(FrozenBaseTest, ATrainedBaseIsSaved) {
  std::string trained = kCoprocessor;
  trained.insert(trained.rfind('}'), R"(, "train_base": true)");
  train("run", experiment(trained));
  EXPECT_FALSE(newest("run").contents.state.contains(kBaseKey));
  EXPECT_EQ(newest("run").contents.model.size(), load("run").model->state().size());
}

TEST_F(FrozenBaseTest, CheckpointsOfEarlierVersionsResumeAndOpen) {
  train("whole", experiment());
  train("earlier", experiment(), false, 3);
  hold_all_weights("earlier");
  EXPECT_EQ(newest("earlier").contents.model.size(), load("earlier").model->state().size());
  train("earlier", experiment(), true);
  expect_same_run("whole", "earlier");
  EXPECT_TRUE(newest("earlier").contents.state.contains(kBaseKey));
}

// Their weights are used, as that version would have, and stay in the checkpoints.
TEST_F(FrozenBaseTest, CheckpointsOfEarlierVersionsOutliveAChangedBase) {
  train("whole", experiment());
  train("earlier", experiment(), false, 3);
  hold_all_weights("earlier");
  const std::string before = load("earlier").model->weights_hash();
  const std::string whole = load("whole").model->weights_hash();
  change_base();
  EXPECT_EQ(load("earlier").model->weights_hash(), before);
  train("earlier", experiment(), true);
  EXPECT_FALSE(newest("earlier").contents.state.contains(kBaseKey));
  EXPECT_EQ(load("earlier").model->weights_hash(), whole);
}

TEST_F(FrozenBaseTest, ABaseThatChangedIsRefused) {
  train("run", experiment(), false, 3);
  const std::string before = load_pretrained(base_).model->weights_hash();
  change_base();
  const std::string now = load_pretrained(base_).model->weights_hash();
  const auto says_all = AllOf(HasSubstr(base_), HasSubstr("their hash is " + now),
                              HasSubstr("wanted " + before), HasSubstr("inspect RUN --base"));
  EXPECT_THAT(message_of<DataError>([&] { load("run"); }), says_all);
  EXPECT_THAT(message_of<DataError>([&] { train("run", experiment(), true); }), says_all);
  EXPECT_EQ(newest("run").contents.state.at("step"), 3);
}

struct Overwriter final : Callback {
  void on_step(const RunView& t, const StepInfo& info) override {
    if (info.step != 3) return;
    Tensor weight = t.model().parameters()[0].second.tensor();
    weight.mutable_data<float>()[0] += 1e-6f;
  }
};

TEST_F(FrozenBaseTest, NoCheckpointIsWrittenAfterTheBaseChangedInMemory) {
  Overwriter overwriter;
  RunControl c = control("run");
  c.callbacks = {&overwriter};
  MonitoredTrainer trainer(experiment(), c);
  EXPECT_THAT(message_of<InternalError>([&] { trainer.run(); }),
              AllOf(HasSubstr("frozen parameters have changed"), HasSubstr(base_)));
  EXPECT_EQ(newest("run").contents.state.at("step"), 2);
  // The file is as it was, and the run goes on.
  train("run", experiment(), true);
  train("whole", experiment());
  expect_same_run("whole", "run");
}

TEST_F(FrozenBaseTest, ABaseThatWasMovedIsFoundAgain) {
  train("whole", experiment());
  train("run", experiment(), false, 3);
  const std::string hash = load_pretrained(base_).model->weights_hash(),
                    moved = directory_ / "moved";
  fs::copy(base_, directory_ / "other");
  fs::rename(base_, moved);
  EXPECT_THAT(message_of<DataError>([&] { load("run"); }),
              AllOf(HasSubstr("is not there"), HasSubstr(base_), HasSubstr(hash),
                    HasSubstr("inspect " + (directory_ / "run") + " --base PATH")));
  EXPECT_THAT(message_of<DataError>([&] { train("run", experiment(), true); }),
              AllOf(HasSubstr("is not there"), HasSubstr("--set model.base=PATH")));
  // Another base is not taken for it.
  fs::rename(directory_ / "other", base_);
  change_base();
  fs::rename(base_, directory_ / "other");
  EXPECT_THAT(message_of<DataError>([&] { move_base(directory_ / "run", directory_ / "other"); }),
              HasSubstr("wanted " + hash));
  EXPECT_THAT(message_of<UserError>([&] { move_base(directory_ / "run", directory_ / "none"); }),
              HasSubstr("is not there"));
  // A resumed run is told by its config, one that is read by inspect --base.
  train("run", experiment(kCoprocessor, {{"model", {{"base", moved}}}}), true);
  EXPECT_EQ(newest("run").contents.state.at(kBaseKey).at("path"), moved);
  EXPECT_THROW(load("whole"), DataError);
  // An earlier version's config has fewer keys; the summary stays the one of this config.
  Json earlier = parse_json(read_file(directory_ / "whole/config.resolved.json")),
       summary = parse_json(read_file(directory_ / "whole/summary.json"));
  earlier.erase("shrunk_by");
  summary[kConfigHashKey] = config_hash(earlier);
  write_file_atomically(directory_ / "whole/config.resolved.json", json_text(earlier));
  write_file_atomically(directory_ / "whole/summary.json", json_text(summary));
  move_base(directory_ / "whole", moved);
  EXPECT_EQ(parse_json(read_file(directory_ / "whole/summary.json")).at(kConfigHashKey),
            config_hash(parse_json(read_file(directory_ / "whole/config.resolved.json"))));
  expect_same_run("whole", "run");
}

TEST_F(FrozenBaseTest, ASelfContainedRunOpensAndResumesWithoutTheBase) {
  const Json stores = {{"checkpoint", {{"self_contained", true}}}};
  train("whole", experiment());
  const std::string whole = load("whole").model->weights_hash();
  const Json summary = read_summary(directory_ / "whole");
  train("run", experiment(kCoprocessor, stores), false, 3);
  EXPECT_TRUE(fs::exists(directory_ / "run/frozen_base/model/model.safetensors"));
  EXPECT_LT(bytes("run"), 26560u) << "the copy is the run's, not the checkpoint's";
  fs::remove_all(base_);
  EXPECT_EQ(frozen_base_of(*load("run").model)->path, directory_ / "run/frozen_base/model");
  train("run", experiment(kCoprocessor, stores), true);
  EXPECT_EQ(load("run").model->weights_hash(), whole);
  EXPECT_EQ(read_summary(directory_ / "run").at("val_loss"), summary.at("val_loss"));
  // The run directory may be moved; its latents are exported, and open, with the copy beside them.
  fs::rename(directory_ / "run", directory_ / "moved_run");
  LoadedRun run = load("moved_run");
  EXPECT_EQ(run.model->weights_hash(), whole);
  export_trained_state({*run.model, run.options.model, run.tokenizer.get(), run.verdict},
                       directory_ / "state");
  EXPECT_EQ(load_trained_state(directory_ / "state").model->weights_hash(), whole);
}

TEST_F(FrozenBaseTest, ARunBecomesSelfContainedWhenItIsResumed) {
  train("run", experiment(), false, 3);
  EXPECT_FALSE(fs::exists(directory_ / "run/frozen_base"));
  fs::create_directory(directory_ / "run/.frozen_base.tmp-1");  // of a process that was killed
  train("run", experiment(kCoprocessor, {{"checkpoint", {{"self_contained", true}}}}), true);
  fs::remove_all(base_);
  EXPECT_NO_THROW(load("run"));
  EXPECT_FALSE(fs::exists(directory_ / "run/.frozen_base.tmp-1"));
}

TEST_F(FrozenBaseTest, LowRankUpdatesAreExportedWithTheBaseTheyStandBeside) {
  train("run", experiment(R"({"type": "pretrained", "block_size": 16, "rank": 2})"));
  LoadedRun run = load("run");
  export_hugging_face(*run.model, run.options.model, run.tokenizer.get(), directory_ / "merged");
  export_trained_state({*run.model, run.options.model, run.tokenizer.get(), run.verdict},
                       directory_ / "state");
  EXPECT_EQ(load_trained_state(directory_ / "state").model->weights_hash(),
            run.model->weights_hash());
  change_base();
  EXPECT_THAT(message_of<DataError>([&] { load_trained_state(directory_ / "state"); }),
              HasSubstr("other weights"));
}

TEST_F(FrozenBaseTest, ABaseIsTheSameModelWhereverItsFilesLie) {
  train("run", experiment());
  const LoadedRun run = load("run");
  FrozenBase& base = *frozen_base_of(*run.model);
  Json record = newest_base_record(directory_ / "run");
  const auto refuse = [&] {
    require_recorded_base(*run.model, {{kBaseKey, record}}, "the checkpoint");
  };
  EXPECT_EQ(record.at("model"), parse_json(base.model));
  // As a run that is itself beside a base, which was moved.
  record["model"] = {{"type", "augmented"}, {"base", "here"}, {"ahead", 4}};
  base.model = R"({"type": "augmented", "base": "there", "ahead": 4})";
  EXPECT_NO_THROW(refuse());
  base.model = R"({"type": "augmented", "base": "there", "ahead": 8})";
  EXPECT_THAT(message_of<DataError>(refuse), HasSubstr("its ahead is 8, wanted 4"));
}

TEST_F(FrozenBaseTest, RanksOpenTheBaseAndDoNotSendIt) {
  const auto train_with = [&](const std::string& name, int ranks, bool resume,
                              std::optional<int64_t> stop) {
    const auto errors = testing::run_ranks(ranks, [&](Communicator& communicator) {
      RunControl c = control(name, resume, stop);
      c.communicator = &communicator;
      MonitoredTrainer(experiment(kCoprocessor, {{"precision", "f64"}}), c).run();
    });
    for (const std::string& error : errors) EXPECT_EQ(error, "");
  };
  train_with("one", 1, false, {});
  train_with("two", 2, false, 3);
  EXPECT_TRUE(newest("two").contents.state.contains(kBaseKey));
  train_with("two", 2, true, {});
  expect_same_run("one", "two");
}

// What the file has in the wanted form is not copied, and the file never changes.
TEST_F(FrozenBaseTest, FrozenWeightsStayInTheirFile) {
  const auto shared = load_pretrained(base_), other = load_pretrained(base_),
             copied = load_pretrained(base_, {.frozen = false});
  const auto a = shared.model->parameters(), b = other.model->parameters(),
             c = copied.model->parameters();
  for (size_t i = 0; i < a.size(); ++i) {
    EXPECT_TRUE(a[i].second.tensor().shares_storage_with(a[0].second.tensor())) << a[i].first;
    EXPECT_FALSE(c[i].second.tensor().shares_storage_with(c[0].second.tensor()) && i > 0);
    EXPECT_TRUE(bit_identical(a[i].second.tensor(), c[i].second.tensor()));
  }
  const Tensor tokens = Tensor::from<int32_t>({1, 6}, {3, 1, 4, 1, 5, 9});
  NoGrad guard;
  copied.model->train(false);
  EXPECT_TRUE(
      bit_identical(shared.model->logits(tokens).tensor(), copied.model->logits(tokens).tensor()));
  const std::string before = hash_file(base_ + "/model.safetensors");
  Tensor weight = a[0].second.tensor();
  weight.mutable_data<float>()[0] += 1;
  EXPECT_EQ(hash_file(base_ + "/model.safetensors"), before);
  EXPECT_EQ(other.model->weights_hash(), copied.model->weights_hash());
  EXPECT_NE(shared.model->weights_hash(), copied.model->weights_hash());
  // In another type they are copies.
  const auto wide = load_pretrained(base_, {.dtype = DType::f64}).model->parameters();
  EXPECT_FALSE(wide[1].second.tensor().shares_storage_with(wide[0].second.tensor()));
}

}  // namespace
}  // namespace reverie
