// Tables of latents, from their file: what is trained, measured and used again.

#include "trainers/tables/latent_repros.h"

#include <gmock/gmock.h>

#include <cmath>
#include <filesystem>

#include "core/cuda.h"
#include "datasets/dataset.h"
#include "layers/pretrained/load.h"
#include "support/tiny_models.h"
#include "trainers/evaluation/attacks.h"
#include "trainers/evaluation/model_source.h"
#include "trainers/exporting/random_base.h"
#include "trainers/runs/stored_run.h"
#include "trainers/tables/latents/latent_table.h"
#include "trainers/training/trainer.h"

namespace reverie {
namespace {

using testing::message_of;

using ::testing::AllOf;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::LatentReproTest;
using ::testing::Not;
using testing::TemporaryDirectory;

TEST_F(LatentReproTest, TheBaseComesFirstAndEveryCellsFirstSeedBeforeAnysSecond) {
  const auto runs = plan_table(options(table()));
  std::vector<std::string> order;
  for (const PlannedRun& r : runs)
    order.push_back(fmt::format("{}/{}/{}", r.cell.model, r.cell.level, r.seed));
  EXPECT_THAT(order, ElementsAre("base/0/1", "coprocessor/2/1", "pause/2/1", "cotrained/2/1",
                                 "continued/0/1", "coprocessor/2/2", "pause/2/2", "cotrained/2/2",
                                 "continued/0/2"));
  EXPECT_FALSE(runs[0].in_table);
  EXPECT_EQ(runs[0].config.at("train").at("steps").json(), 30);
  const std::string base = runs[0].directory + "/hugging_face";
  EXPECT_EQ(runs[1].config.at("model").at("base").json(), base);
  EXPECT_EQ(runs[1].config.at("model").at("latents").at("count").json(), 2);
  EXPECT_EQ(runs[4].config.at("model").at("path").json(), base);
  EXPECT_FALSE(runs[4].config.at("model").has("groups"));
}

TEST_F(LatentReproTest, ErrorsSayWhatAndWhere) {
  Json t = table();
  t["kind"] = "latents";
  EXPECT_THAT(refused(t), HasSubstr("latent_effect, losses"));
  t = table();
  t["block_sizes"] = Json::object();  // of the other kind
  EXPECT_THAT(refused(t), HasSubstr("block_sizes"));
  t = table();
  t["presets"]["tiny"]["cell"] = Json::object();
  EXPECT_THAT(refused(t), HasSubstr("\"cells\""));
  t = table();
  t["presets"]["tiny"]["cells"]["coprocesor"] = {2};
  EXPECT_THAT(refused(t), HasSubstr("coprocesor"));
  t = table();
  t["presets"]["tiny"]["cells"]["coprocessor"] = Json::array();
  EXPECT_THAT(refused(t), HasSubstr("is empty"));
  t = table();
  t["presets"]["tiny"]["cells"]["continued"] = {4};
  EXPECT_THAT(refused(t), HasSubstr("4 latents are asked for, but this model has none"));
  t = table();
  t["presets"]["tiny"]["base_model"] = "base.bin";
  EXPECT_THAT(refused(t), HasSubstr("both"));
  t["presets"]["tiny"].erase("base_model");
  t["presets"]["tiny"].erase("pretraining");
  EXPECT_THAT(refused(t), HasSubstr("neither"));
  t = table();
  t["measure"]["position"] = 3;
  EXPECT_THAT(refused(t), HasSubstr("\"positions\""));
  t = table();
  t["measure"]["groups"] = 3;
  EXPECT_THAT(refused(t), HasSubstr("give \"points\""));
  t = table();
  t["shuffled"] = {"nobody"};
  EXPECT_THAT(refused(t), HasSubstr("nobody"));
}

TEST_F(LatentReproTest, TrainsTheBaseAndTheCellsMeasuresAndReuses) {
  const ReproOptions o = options(table());
  ASSERT_EQ(run_table(o), 0);
  const Json json = parse_json(read_file(o.directory + "/table.json"));
  const auto runs = plan_table(o);
  ASSERT_EQ(json["rows"].size(), 6u * 6);  // shuffled lines of coprocessor and pause
  EXPECT_EQ(json["finished_runs"], 8);
  EXPECT_EQ(json["planned_runs"], 8);
  const Config trained = Config::from_file(runs[1].directory + "/config.resolved.json");
  const Json batch = trained.at("train").json(), shape = trained.at("model").json();
  EXPECT_EQ(json["all_positions"][0]["training_insertions"],
            batch["steps"].get<int64_t>() * batch["batch_size"].get<int64_t>() *
                shape["groups"].get<int64_t>());
  for (const char* file : {"table.md", "table.csv", "report.html"})
    EXPECT_TRUE(std::filesystem::exists(o.directory + "/" + file)) << file;

  const auto change = [&](const std::string& model, int position) {
    for (const Json& row : json["rows"])
      if (row["model"] == model && row["position"] == position)
        return row["measured"]["ppl_change_percent"]["mean"].get<double>();
    ADD_FAILURE() << model;
    return 0.0;
  };
  // Latents that read a text are not another text's; those that read nothing are the same for all.
  EXPECT_GT(std::abs(change("coprocessor", 1) - change("coprocessor_shuffled", 1)), 1e-6);
  EXPECT_NEAR(change("pause", 1), change("pause_shuffled", 1), 1e-4);
  // Every line's base is the untouched one, also where the run trained it.
  for (const Json& row : json["rows"])
    EXPECT_NEAR(row["measured"]["base_perplexity"].get<double>(),
                json["base"]["perplexity"][size_t(row["position"]) - 1].get<double>(), 1e-9);
  const auto costs = [&](const std::string& model) {
    for (const Json& line : json["all_positions"])
      if (line["model"] == model) return line["costs"];
    return Json();
  };
  EXPECT_EQ(costs("pause")["trainable_parameters"], 2 * 16);
  EXPECT_EQ(costs("pause")["device"], "cpu");
  EXPECT_EQ(json["base"]["costs"]["device"], "cpu");
  EXPECT_FALSE(parse_json(read_file(runs[1].directory + "/latent_effect.json"))["of"].contains(
      "device"));  // as measurements of earlier versions, which stay good
  EXPECT_GT(costs("cotrained")["trainable_parameters"],
            costs("coprocessor")["trainable_parameters"]);
  EXPECT_EQ(costs("continued")["flops_per_insertion"], 0.0);
  EXPECT_GT(costs("coprocessor")["flops_per_insertion"], costs("pause")["flops_per_insertion"]);

  // The same command again trains and measures nothing.
  const auto time_of = [&](const std::string& file) {
    return std::filesystem::last_write_time(runs[1].directory + file);
  };
  const auto summary = time_of("/summary.json"), effect = time_of("/latent_effect.json");
  ASSERT_EQ(run_table(o), 0);
  EXPECT_EQ(time_of("/summary.json"), summary);
  EXPECT_EQ(time_of("/latent_effect.json"), effect);
  // Another measurement of the same runs is one.
  Json more = table();
  more["measure"]["positions"] = 7;
  ASSERT_EQ(run_table(options(more)), 0);
  EXPECT_EQ(time_of("/summary.json"), summary);
  EXPECT_NE(time_of("/latent_effect.json"), effect);
  EXPECT_EQ(parse_json(read_file(o.directory + "/table.json"))["rows"].size(), 6u * 7);
  // So is the same behind other insertions, and one that an earlier version left.
  more["measure"]["offsets"] = "every";
  ASSERT_EQ(run_table(options(more)), 0);
  const Json every = parse_json(read_file(o.directory + "/table.json"));
  EXPECT_EQ(every["all_positions"][0]["insertions"], 8 * 10) << "10 offsets in each of 8 texts";
  EXPECT_EQ(every["all_positions"][0]["rule"],
            "at every offset from 1 to T - 6 of a text of T tokens");
  Json old = parse_json(read_file(runs[1].directory + "/latent_effect.json"));
  old["of"]["format"] = "reverie latent effect 1";
  old["measured"] = Json::object();
  write_file_atomically(runs[1].directory + "/latent_effect.json", json_text(old));
  ASSERT_EQ(run_table(options(more)), 0);
  EXPECT_EQ(parse_json(read_file(o.directory + "/table.json"))["rows"], every["rows"]);
}

// Losses and milliseconds of a run and of its base are of one device.
TEST_F(LatentReproTest, TheBaseIsMeasuredOnTheDeviceOfItsRun) {
  if (!cuda::status().usable) GTEST_SKIP() << "device cuda: " << cuda::status().in_words;
  Json t = table();
  Json& tiny = t["presets"]["tiny"];
  tiny["pretraining"]["train"]["steps"] = 2;
  tiny["cells"] = {{"pause", {2}}};
  tiny["seeds"] = {1};
  ReproOptions o = options(t);
  o.overrides = {"device=cuda", "train.steps=2"};
  ASSERT_EQ(run_table(o), 0);
  const auto runs = plan_table(o);
  const Json measured = parse_json(read_file(runs[1].directory + "/latent_effect.json"));
  EXPECT_EQ(measured["of"]["device"], "cuda");
  for (const char* costs : {"costs", "base_costs"})
    EXPECT_EQ(measured["measured"][costs]["device"], "cuda") << costs;
  EXPECT_THAT(read_file(o.directory + "/table.md"), HasSubstr("its next token, on device cuda."));

  const std::string base = runs[0].directory + "/hugging_face";
  const Device gpu{DeviceKind::cuda, 0};
  const UsableModel on_gpu = open_model(base, {.device = gpu}), on_cpu = open_model(base);
  for (const auto& [name, v] : on_gpu.model->parameters()) EXPECT_EQ(v.device(), gpu) << name;
  for (const auto& [name, v] : on_cpu.model->parameters()) EXPECT_EQ(v.device(), Device{}) << name;
  const LoadedRun run = load_run(runs[1].directory);
  const Dataset data = prepare_and_open(run.options.data);
  const EvaluationWindows windows(data.validation, 4, 16, 4);
  EXPECT_THAT(message_of<UserError>([&] {
                measure_latents(*run.model, *on_cpu.model, windows,
                                {.rule = {.points = 2, .positions = 3}}, false);
              }),
              HasSubstr("on device cuda and its base on cpu"));
}

// One model whose latents come two tokens late moves everybody's first insertion.
TEST_F(LatentReproTest, APointTooEarlyForOneIsLeftOutForAll) {
  Json t = table();
  t["models"]["late"] =
      Json::parse(R"({"model": {"latents": {"type": "coprocessor"}, "delay": 2}})");
  t["presets"]["tiny"]["cells"] = {{"coprocessor", {2}}, {"continued", Json::array()}};
  t["presets"]["tiny"]["seeds"] = {1};
  t["measure"]["offsets"] = "every";
  ASSERT_EQ(run_table(options(t)), 0);
  const auto insertions = [&] {
    std::set<std::string> found;
    const Json written = parse_json(read_file(directory_ / "out/table.json"));
    for (const Json& line : written["all_positions"])
      found.insert(fmt::format("{}: {}", line["insertions"].dump(), line["rule"].dump()));
    return found;
  };
  EXPECT_THAT(insertions(),
              ElementsAre("88: \"at every offset from 1 to T - 5 of a text of T tokens\""));
  t["presets"]["tiny"]["cells"]["late"] = {2};
  ASSERT_EQ(run_table(options(t)), 0);
  EXPECT_THAT(insertions(),
              ElementsAre("72: \"at every offset from 3 to T - 5 of a text of T tokens\""));
}

// A kill may come between a run's last checkpoint and its page.
TEST_F(LatentReproTest, WhatAKilledRunLeftUndoneIsDone) {
  Json t = table();
  t["presets"]["tiny"]["cells"] = {{"continued", Json::array()}};
  t["presets"]["tiny"]["seeds"] = {1};
  const ReproOptions o = options(t);
  ASSERT_EQ(run_table(o), 0);
  const std::string run = plan_table(o)[1].directory;
  const std::string page = run + "/report.html", lock = run + "/run.lock";
  ASSERT_TRUE(std::filesystem::remove(page));
  std::ofstream(lock).close();
  ASSERT_EQ(run_table(o), 0);
  EXPECT_TRUE(std::filesystem::exists(page));
  EXPECT_FALSE(std::filesystem::exists(lock));
}

// The export that later runs begin with, and what was measured, are of the newest checkpoint.
TEST_F(LatentReproTest, WhatWasMadeFromOtherWeightsIsMadeAnew) {
  Json t = table();
  t["presets"]["tiny"]["cells"] = {{"pause", {2}}};
  t["presets"]["tiny"]["seeds"] = {1};
  const ReproOptions o = options(t);
  ASSERT_EQ(run_table(o), 0);
  const auto runs = plan_table(o);
  for (const std::string& file : {runs[0].directory + "/hugging_face/exported_from.json",
                                  runs[1].directory + "/latent_effect.json"}) {
    const Json made = parse_json(read_file(file));
    Json stale = made;
    stale["checkpoint_weights"] = "of other weights";
    write_file_atomically(file, json_text(stale));
    EXPECT_EQ(run_table(o), 0);
    EXPECT_EQ(parse_json(read_file(file))["checkpoint_weights"], made["checkpoint_weights"]);
  }
}

TEST_F(LatentReproTest, RunsBesideABaseThatWasReplacedAreRefused) {
  const std::string base = directory_ / "base";
  const auto replace_base = [&](int64_t width) {
    std::filesystem::remove_all(base);
    write_random_base({{"type", "llama"},
                       {"vocab_size", 65},
                       {"block_size", 32},
                       {"n_layer", 2},
                       {"n_head", 2},
                       {"n_embd", 16},
                       {"n_hidden", width}},
                      base);
  };
  Json t = table();
  Json& tiny = t["presets"]["tiny"];
  tiny.erase("pretraining");
  tiny["base_model"] = base;
  // The first run's base is frozen, the second's is trained.
  for (const Json& cells : {Json{{"pause", {2}}}, Json{{"continued", Json::array()}}}) {
    tiny["cells"] = cells;
    tiny["seeds"] = {1};
    replace_base(32);
    ASSERT_EQ(run_table(options(t)), 0);
    replace_base(48);
    tiny["seeds"] = {1, 2};
    for (const bool report_only : {true, false}) {
      ReproOptions o = options(t);
      o.report_only = report_only;
      EXPECT_THAT(message_of<DataError>([&] { run_table(o); }),
                  AllOf(HasSubstr(base), HasSubstr("has other weights"),
                        HasSubstr(plan_table(o)[0].directory), HasSubstr("another --run-dir")));
      EXPECT_FALSE(std::filesystem::exists(plan_table(o)[1].directory));
    }
    replace_base(32);
    EXPECT_EQ(run_table(options(t)), 0);
  }
}

// A control trained on other text is measured on the table's text, and the table names both.
TEST_F(LatentReproTest, AModelTrainedOnOtherDataIsMeasuredOnTheTables) {
  std::ofstream other(directory_ / "other.txt");
  for (int i = 0; i < 400; ++i)
    other << "made-up text, to be learnt. The " << i * 31 % 97 << ". line of a\n";
  other.close();
  Json t = table();
  t["models"]["elsewhere"] = {
      {"model", {{"type", "pretrained"}, {"block_size", 16}}},
      {"data",
       {{"path", directory_ / "other.txt"}, {"prepared_directory", directory_ / "other_tokens"}}}};
  t["presets"]["tiny"]["cells"] = {
      {"coprocessor", {2}}, {"continued", Json::array()}, {"elsewhere", Json::array()}};
  t["presets"]["tiny"]["seeds"] = {1};
  const ReproOptions o = options(t);
  ASSERT_EQ(run_table(o), 0);
  const auto runs = plan_table(o);
  EXPECT_FALSE(runs[2].table_data);
  ASSERT_TRUE(runs[3].table_data);
  EXPECT_EQ(runs[3].table_data->options.path, std::string(directory_ / "text.txt"));
  // Measurements are kept under the words of the table's file, as those of earlier versions are.
  EXPECT_EQ(parse_json(read_file(runs[3].directory + "/latent_effect.json"))["of"]["data"],
            t["base"]["data"]);
  const auto hash_of = [](const PlannedRun& r) {
    return read_summary(r.directory)["dataset"]["hash"].get<std::string>();
  };
  ASSERT_NE(hash_of(runs[3]), hash_of(runs[2]));
  const Json written = parse_json(read_file(o.directory + "/table.json"));
  EXPECT_EQ(written["provenance"]["dataset"]["hash"], hash_of(runs[2]));
  EXPECT_THAT(written["provenance"]["training_data"]["elsewhere"].get<std::string>(),
              HasSubstr(hash_of(runs[3])));
  // On the same predictions: build_latent_table() refuses anything else. They differ in the model.
  const auto losses_of = [](const PlannedRun& r) {
    return parse_json(read_file(r.directory + "/latent_effect.json"))["measured"]["own"];
  };
  EXPECT_EQ(losses_of(runs[3])["texts"][0]["base"], losses_of(runs[2])["texts"][0]["base"]);
  EXPECT_NE(losses_of(runs[3])["texts"][0]["model"], losses_of(runs[2])["texts"][0]["model"]);
  EXPECT_THAT(read_file(o.directory + "/table.md"),
              HasSubstr("training data of elsewhere: other (hash " + hash_of(runs[3])));

  ReproOptions replaced = options(t);
  replaced.overrides = {"data.path=" + (directory_ / "text.txt")};
  EXPECT_THAT(message_of<ConfigError>([&] { plan_table(replaced); }),
              HasSubstr("elsewhere is trained on data of its own"));

  // Fewer words than the base has characters: it can be trained on them.
  std::ofstream words(directory_ / "words.txt");
  for (int i = 0; i < 400; ++i) words << "A text of ten words is to be learnt here.\n";
  words.close();
  t["models"]["elsewhere"]["data"] = {{"path", directory_ / "words.txt"},
                                      {"tokenizer", "word"},
                                      {"prepared_directory", directory_ / "other_words"}};
  EXPECT_THAT(message_of<UserError>([&] { run_table(options(t)); }), HasSubstr("tokenizer"));
}

// Three texts stand side by side in the table's last batch alone: nothing in training has that
// size.
TEST_F(LatentReproTest, ASourceThatReadsAheadInTheLastBatchIsLabelled) {
  testing::reset_attacks();
  Json t = table();
  t["models"]["peeks"] = {
      {"model", {{"latents", {{"type", "test_latent_attack"}, {"kind", "three_texts"}}}}}};
  t["presets"]["tiny"]["cells"] = {{"peeks", {1}}, {"continued", Json::array()}};
  t["presets"]["tiny"]["seeds"] = {1};
  t["measure"]["windows"] = 7;
  t["measure"]["batch_size"] = 4;
  const ReproOptions o = options(t);
  EXPECT_EQ(run_table(o), int(ExitCode::check_failed));
  const auto runs = plan_table(o);
  ASSERT_EQ(runs.size(), 3u);
  const Json measured = read_stored_json(runs[1].directory + "/latent_effect.json").json();
  const Verdict verdict = Verdict::of_file(measured);
  ASSERT_TRUE(verdict.leaks());
  EXPECT_THAT(verdict.line(), AllOf(HasSubstr("the evaluation's own forward"),
                                    HasSubstr("3 texts of 16 tokens, 3 groups")));
  EXPECT_TRUE(kept_leak(runs[1].directory).leaks());
  EXPECT_FALSE(kept_leak(runs[2].directory).leaks());
  const Json written = parse_json(read_file(o.directory + "/table.json"));
  for (const Json& row : written["rows"])
    EXPECT_EQ(row["verdict"], row["model"] == "peeks" ? "LEAKS" : "causal") << row["model"];
}

TEST_F(LatentReproTest, AMixIsMeasured) {
  std::ofstream other(directory_ / "other.txt");
  for (int i = 0; i < 400; ++i)
    other << "made-up text, to be learnt. The " << i * 31 % 97 << ". line of a\n";
  other.close();
  Json t = table();
  DataOptions first;
  first.path = directory_ / "text.txt";
  first.prepared_directory = directory_ / "tokens";
  prepare_and_open(first);
  t["base"]["data"] = {{"mix",
                        {{{"path", directory_ / "tokens"}, {"weight", 3}},
                         {{"path", directory_ / "other.txt"},
                          {"tokenizer", "pretrained"},
                          {"tokenizer_files", directory_ / "tokens"},
                          {"prepared_directory", directory_ / "other_tokens"},
                          {"weight", 1}}}}};
  t["measure"]["windows"] = 8;
  t["presets"]["tiny"]["cells"] = {{"coprocessor", {2}}, {"continued", Json::array()}};
  t["presets"]["tiny"]["seeds"] = {1};
  const ReproOptions o = options(t);
  ASSERT_EQ(run_table(o), 0);
  const Json written = parse_json(read_file(o.directory + "/table.json"));
  EXPECT_EQ(written["finished_runs"], 2);
  for (const Json& line : written["all_positions"]) EXPECT_EQ(line["texts"], 8);
  EXPECT_THAT(written["provenance"]["dataset"]["name"].get<std::string>(), HasSubstr("+"));
}

TEST_F(LatentReproTest, OtherCoprocessorsAreRowsLikeTheFirst) {
  Json t = table();
  t["models"] = parse_json(R"({
    "lora": {"model": {"latents": {"type": "coprocessor", "initial": "lora", "rank": 2}}},
    "cache": {"model": {"latents": {"type": "coprocessor", "writes": "cache"}}},
    "several": {"model": {"latents": {"type": "several", "sources": [{"type": "coprocessor"}, {"type": "coprocessor"}]}}},
    "late": {"model": {"latents": {"type": "coprocessor"}, "delay": 2}}})");
  t["presets"]["tiny"]["cells"] = {{"lora", {2}}, {"cache", {2}}, {"several", {4}}, {"late", {2}}};
  t["presets"]["tiny"]["seeds"] = {1};
  t["shuffled"] = {"cache"};
  const ReproOptions o = options(t);
  // Two sources share four latents.
  const Json sources = plan_table(o)[3].config.at("model").at("latents").at("sources").json();
  EXPECT_EQ(sources[0]["count"], 2);
  EXPECT_EQ(sources[1]["count"], 2);
  EXPECT_THAT(plan_table_text(o), HasSubstr("lora"));
  ASSERT_EQ(run_table(o), 0);
  const Json json = parse_json(read_file(o.directory + "/table.json"));
  EXPECT_EQ(json["rows"].size(), 5u * 6);
  for (const Json& row : json["rows"])
    EXPECT_TRUE(std::isfinite(row["measured"]["ppl_change_percent"]["mean"].get<double>()));
  t["presets"]["tiny"]["cells"]["several"] = {3};
  EXPECT_THAT(refused(t), HasSubstr("cannot be shared evenly by its 2 sources"));
}

TEST_F(LatentReproTest, LearningRatesAreChosenByTrialsOnTextsThatTheTableLeavesOut) {
  Json t = table();
  t["measure"]["windows"] = 8;
  t["models"]["lora"] =
      Json::parse(R"({"model": {"type": "pretrained", "block_size": 16, "rank": 2}})");
  t["presets"]["tiny"]["cells"] = {{"coprocessor", {2, 3}}, {"lora", Json::array()}};
  t["presets"]["tiny"]["model_seeds"] = {{"lora", {2}}};
  // The first is so small that nothing is learnt, the last so large that much is unlearnt.
  t["presets"]["tiny"]["sweep"] = {
      {"steps", 6}, {"learning_rates", {1e-9, 0.003, 3.0}}, {"models", {{"lora", {3.0, 0.001}}}}};
  const ReproOptions o = options(t);
  const auto before = plan_table(o);
  EXPECT_EQ(std::count_if(before.begin(), before.end(), [](auto& r) { return r.trial; }), 5);
  EXPECT_THAT(plan_table_text(o), HasSubstr("5 trials"));
  ::testing::internal::CaptureStderr();
  const int ended = run_table(o);
  // Trials are counted as the first part of the whole table, as they are timed.
  EXPECT_THAT(::testing::internal::GetCapturedStderr(),
              AllOf(HasSubstr("run 2/11 trial of coprocessor/2"), HasSubstr("run 11/11 lora")));
  ASSERT_EQ(ended, 0);
  const auto runs = plan_table(o);
  std::vector<std::string> cells;
  for (const PlannedRun& r : runs) {
    if (!r.in_table) continue;
    cells.push_back(fmt::format("{}/{}/{}", r.cell.model, r.cell.level, r.seed));
    const double rate = r.config.at("optimizer").at("learning_rate").json();
    EXPECT_EQ(rate, r.cell.model == "lora" ? 0.001 : 0.003) << cells.back();
    EXPECT_EQ(r.config.at("optimizer").at("minimum_learning_rate").json().get<double>(), rate / 10);
    EXPECT_EQ(r.config.at("train").at("steps").json(), 4);
    EXPECT_TRUE(run_finished(r.directory));
  }
  EXPECT_THAT(cells, ElementsAre("coprocessor/2/1", "coprocessor/3/1", "coprocessor/2/2",
                                 "coprocessor/3/2", "lora/0/2"));
  const Json json = parse_json(read_file(o.directory + "/table.json"));
  EXPECT_EQ(json["planned_runs"], 5);
  EXPECT_EQ(json["finished_runs"], 5);
  for (const Json& line : json["all_positions"]) EXPECT_EQ(line["texts"], 6) << "of eight";
  const std::string note = json["notes"].back();
  EXPECT_THAT(note, HasSubstr("every fourth held-out text"));
  EXPECT_THAT(note, HasSubstr("coprocessor: 0.003 of 1e-09 ("));
  EXPECT_THAT(note, HasSubstr("lora: 0.001 of 0.001 ("));
  t["presets"]["tiny"]["model_seeds"] = {{"lora", {7}}};
  EXPECT_THAT(refused(t), HasSubstr("none of the preset's seeds"));
  t["presets"]["tiny"].erase("model_seeds");
  t["presets"]["tiny"]["sweep"]["models"] = {{"pause", {0.1}}};
  EXPECT_THAT(refused(t), HasSubstr("no such model"));
}

TEST_F(LatentReproTest, AFrozenBaseThatChangedIsNoticed) {
  ReproOptions o = options(table());
  o.only = {"pause"};
  ASSERT_EQ(run_table(o), 0);
  const auto runs = plan_table(o);
  LoadedRun loaded = load_run(runs[2].directory);
  auto& augmented = dynamic_cast<AugmentedModel&>(*loaded.model);
  const Dataset data = prepare_and_open(loaded.options.data);
  const EvaluationWindows windows(data.validation, 4, 16, 4);
  const auto base = load_pretrained(runs[0].directory + "/hugging_face");
  const auto measured = [&] {
    return measure_latents(augmented, *base.model, windows, {.rule = {.points = 2, .positions = 3}},
                           false);
  };
  EXPECT_NO_THROW(measured());
  Tensor weight = augmented.base().parameters()[3].second.tensor();
  weight.mutable_data<float>()[0] += 1e-3f;
  EXPECT_THAT(message_of<DataError>(measured), HasSubstr("has changed"));
}

}  // namespace
}  // namespace reverie
