// Every registered task: what it promises of answers, distances and chance. And the data sets that
// are made of tasks.

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <map>
#include <nlohmann/json.hpp>
#include <numeric>
#include <set>

#include "core/json.h"
#include "datasets/data_support.h"
#include "datasets/dataset.h"
#include "datasets/passages.h"
#include "datasets/task_sampler.h"
#include "datasets/tasks/schedule.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;
using ::testing::ElementsAre;
using ::testing::HasSubstr;
using testing::TemporaryDirectory;

Component component_of(const Json& json) {
  return resolve_component(TaskRegistry::instance(), Config(json, "$.data.generated"));
}
std::unique_ptr<GeneratedTask> make_task(const Json& json) {
  return TaskRegistry::instance().make(component_of(json));
}

// So small that every window and document that can be comes often. A task without options here is
// tried with its defaults, and its windows may not come often enough: then the test says so.
Json tiny_options(const std::string& type) {
  static const Json known = {
      {"recall", {{"pairs", 1}, {"questions", 1}, {"keys", 3}, {"values", 3}, {"window", 6}}},
      {"copy", {{"length", 1}, {"symbols", 3}, {"window", 5}}},
      {"automaton", {{"group", "z2"}, {"symbols", 1}, {"window", 4}}},
      {"tracking",
       {{"stories", 1}, {"distractors", 0}, {"people", 2}, {"rooms", 3}, {"window", 16}}}};
  Json options = {{"type", type}, {"windows", 2}, {"distances", {1}}};
  options.update(known.value(type, Json::object()));
  return options;
}

// How often the best guess of an answer is right, for one who knows of the document what
// `known_before` keeps of the tokens up to the answer. Half the documents say what is best, the
// others are counted.
struct Guesses {
  int64_t right = 0, of = 0, unknown = 0;
  double share() const { return double(right) / double(of); }
};
template <class Known>
Guesses best_guesses(const GeneratedTask& task, int64_t documents, const Known& known_before) {
  std::map<std::vector<int64_t>, std::map<int64_t, int64_t>> seen;
  Guesses guesses;
  Generator random(11);
  for (int64_t i = 0; i < documents; ++i) {
    std::vector<TaskWindow> so_far;
    for (const TaskWindow& window : task.document(random)) {
      so_far.emplace_back();
      for (const TaskToken& token : window) {
        if (token.distance >= 0) {
          auto& answers = seen[known_before(so_far)];
          if (i < documents / 2) {
            ++answers[token.word];
          } else if (answers.empty()) {
            ++guesses.unknown;
          } else {
            const auto best =
                std::max_element(answers.begin(), answers.end(),
                                 [](const auto& a, const auto& b) { return a.second < b.second; });
            guesses.right += best->first == token.word;
            ++guesses.of;
          }
        }
        so_far.back().push_back(token);
      }
    }
  }
  return guesses;
}
std::vector<int64_t> window_alone(const std::vector<TaskWindow>& so_far) {
  std::vector<int64_t> words;
  for (const TaskToken& t : so_far.back()) words.push_back(t.word);
  return words;
}
std::vector<int64_t> whole_document(const std::vector<TaskWindow>& so_far) {
  std::vector<int64_t> words;
  for (const TaskWindow& window : so_far) {
    for (const TaskToken& t : window) words.push_back(t.word);
    words.push_back(-1);
  }
  return words;
}
double four_deviations(double p, int64_t n) {
  return 4 * std::sqrt(p * (1 - p) / double(n));
}

std::vector<std::string> registered_tasks() {
  std::vector<std::string> names = TaskRegistry::instance().names();
  std::erase_if(names, [](const std::string& name) { return name.starts_with("test_"); });
  return names;
}

class EveryTask : public ::testing::TestWithParam<std::string> {};
INSTANTIATE_TEST_SUITE_P(Registered, EveryTask, ::testing::ValuesIn(registered_tasks()),
                         [](const auto& info) { return info.param; });

constexpr int64_t kDocuments = 20000;

TEST_P(EveryTask, ChanceIsWhatTheWindowThatAsksTells) {
  const auto task = make_task(tiny_options(GetParam()));
  const Guesses guesses = best_guesses(*task, kDocuments, window_alone);
  ASSERT_GT(guesses.of, kDocuments / 4) << "few answers, or few windows that come again";
  EXPECT_LT(guesses.unknown, guesses.of / 100);
  EXPECT_NEAR(guesses.share(), task->chance(1), four_deviations(task->chance(1), guesses.of));
}

TEST_P(EveryTask, TheDocumentTellsEveryAnswer) {
  const auto task = make_task(tiny_options(GetParam()));
  const Guesses guesses = best_guesses(*task, kDocuments, whole_document);
  ASSERT_GT(guesses.of, kDocuments / 4);
  EXPECT_EQ(guesses.right, guesses.of);
}

TEST_P(EveryTask, FactsThatStandInTheWindowAreNotGuessed) {
  Json options = tiny_options(GetParam());
  options["distances"] = {0, 1};
  options["window"] = 24;
  const auto task = make_task(options);
  const Guesses guesses = best_guesses(*task, kDocuments, window_alone);
  // The count finds what chance does not say.
  EXPECT_GT(guesses.share(), task->chance(1) + 0.1);
}

TEST_P(EveryTask, DistancesAreThoseThatAreAskedFor) {
  const auto task = make_task({{"type", GetParam()}, {"windows", 6}, {"distances", {1, 3}}});
  Generator random(3);
  std::map<int64_t, int64_t> seen;
  for (int i = 0; i < 200; ++i) {
    const auto windows = task->document(random);
    ASSERT_EQ(windows.size(), 6u);
    for (size_t w = 0; w < windows.size(); ++w) {
      EXPECT_LT(int64_t(windows[w].size()), task->options().window);
      for (const TaskToken& t : windows[w]) {
        if (t.distance < 0) continue;
        ++seen[t.distance];
        EXPECT_LE(t.distance, int64_t(w));
      }
    }
  }
  ASSERT_EQ(seen.size(), 2u);
  EXPECT_GT(seen[1], 100);
  EXPECT_GT(seen[3], 100);
}

TEST_P(EveryTask, IsAFunctionOfItsSeed) {
  const TemporaryDirectory directory;
  const auto data_of = [&](int64_t seed, const std::string& name) {
    DataOptions o;
    o.generated = component_of({{"type", GetParam()},
                                {"seed", seed},
                                {"documents", 20},
                                {"validation_documents", 20},
                                {"test_documents", 20}});
    o.prepared_directory = directory / name;
    return prepare_and_open(o);
  };
  const Dataset a = data_of(1, "a"), again = data_of(1, "again"), b = data_of(2, "b");
  EXPECT_EQ(a.hash, again.hash);
  std::set<std::string> different;
  for (const Dataset* d : {&a, &b})
    for (const TokenFile* file : {&d->train, &d->validation, &d->test})
      different.insert(file->checksum());
  EXPECT_EQ(different.size(), 6u);
}

TEST_P(EveryTask, ADistanceBeyondTheDocumentIsRefused) {
  EXPECT_THROWS_SAYING(component_of({{"type", GetParam()}, {"windows", 3}, {"distances", {1, 3}}}),
                       ConfigError,
                       "distance 3 needs a document of 4 windows or more, and windows is 3");
  EXPECT_THROWS_SAYING(component_of({{"type", GetParam()}, {"distances", Json::array()}}),
                       ConfigError, "distances is empty");
  EXPECT_THROWS_SAYING(component_of({{"type", GetParam()}, {"window", 8}}), ConfigError,
                       "window is 8");
}

// ---- schedules ----------------------------------------------------------------------------------

TEST(Schedule, AsksForNoFactTwice) {
  TaskOptions options;
  options.windows = 8;
  options.distances = {0, 1, 4};
  Generator random(5);
  std::set<int64_t> distances;
  for (int i = 0; i < 100; ++i) {
    std::set<std::pair<int64_t, int64_t>> asked;
    const auto windows = draw_questions(options, 3, 2, random);
    ASSERT_EQ(windows.size(), 8u);
    for (int64_t w = 0; w < 8; ++w) {
      EXPECT_LE(windows[size_t(w)].size(), 2u);
      for (const auto& [distance, fact] : windows[size_t(w)]) {
        EXPECT_TRUE(asked.insert({w - distance, fact}).second);
        EXPECT_LE(distance, w);
        distances.insert(distance);
      }
    }
  }
  EXPECT_EQ(distances, (std::set<int64_t>{0, 1, 4}));
}

TEST(Schedule, NumbersAreApartAndNoneIsTaken) {
  Generator random(1);
  const auto drawn = draw_apart(3, 6, {0, 2, 5}, random);
  EXPECT_THAT(std::set<int64_t>(drawn.begin(), drawn.end()), ElementsAre(1, 3, 4));
  EXPECT_THROWS_SAYING(draw_apart(4, 6, {0, 2, 5}, random), InternalError, "4 different numbers");
}

// ---- each task --------------------------------------------------------------------------------

std::string text_of(const GeneratedTask& task, const std::vector<TaskWindow>& windows) {
  const auto words = task.words();
  std::string text;
  for (const TaskWindow& window : windows) {
    for (const TaskToken& t : window) {
      text += words[size_t(t.word)];
      text += t.distance >= 0 ? "[" + std::to_string(t.distance) + "] " : " ";
    }
    text += "| ";
  }
  return text;
}

TEST(Recall, NamesKeysThatAreNotShownAgainBetween) {
  const auto task = make_task({{"type", "recall"}, {"windows", 5}, {"distances", {0, 2}}});
  Generator random(9);
  for (int i = 0; i < 50; ++i) {
    std::map<int64_t, int64_t> value_of;  // the newest of each key
    for (const TaskWindow& window : task->document(random))
      for (size_t t = 1; t < window.size(); ++t) {
        if (window[t].distance >= 0)
          EXPECT_EQ(value_of.at(window[t - 1].word), window[t].word);
        else if (window[t].word >= 32 && window[t].word < 48)
          value_of[window[t - 1].word] = window[t].word;
      }
  }
}
TEST(Recall, PairsAreAskedForAgain) {
  const auto task = make_task({{"type", "recall"}, {"windows", 6}});
  Generator random(4);
  int64_t again = 0, answers = 0;
  for (int i = 0; i < 100; ++i) {
    std::set<int64_t> asked;  // keys, since their pair was shown
    for (const TaskWindow& window : task->document(random))
      for (size_t t = 1; t < window.size(); ++t) {
        const int64_t key = window[t - 1].word;
        if (key >= 32 || window[t].word < 32) continue;
        if (window[t].distance < 0) {
          asked.erase(key);
          continue;
        }
        ++answers;
        again += !asked.insert(key).second;
      }
  }
  EXPECT_GT(again, answers / 4);
  EXPECT_EQ(answers, 100 * 6 * 8);
}
TEST(Recall, NeedsAsManyKeysAsAreHeld) {
  EXPECT_THROWS_SAYING(
      component_of({{"type", "recall"}, {"pairs", 9}, {"keys", 26}, {"distances", {2}}}),
      ConfigError, "need 27 different keys");
  EXPECT_THROWS_SAYING(component_of({{"type", "recall"}, {"pairs", 20}, {"questions", 20}}),
                       ConfigError, "20 pairs and 20 questions take 82 tokens, and window is 64");
}

TEST(Copy, GivesBackTheStringItNames) {
  const auto task =
      make_task({{"type", "copy"}, {"length", 3}, {"distances", {1}}, {"windows", 3}});
  Generator random(2);
  const auto windows = task->document(random);
  for (size_t w = 1; w < 3; ++w)
    for (size_t i = 0; i < 3; ++i) {
      EXPECT_EQ(windows[w][5 + i].word, windows[w - 1][i].word);
      EXPECT_EQ(windows[w][5 + i].distance, 1);
    }
  EXPECT_EQ(windows[0].size(), 3u);
}

TEST(Automaton, MultipliesPermutations) {
  for (const auto& [group, size] :
       {std::pair{"z2", 2}, {"z6", 6}, {"s3", 6}, {"s4", 24}, {"a5", 60}, {"s5", 120}}) {
    const auto task = make_task({{"type", "automaton"},
                                 {"group", group},
                                 {"symbols", 1},
                                 {"windows", 3},
                                 {"distances", {0, 1}}});
    ASSERT_EQ(task->words().size(), size_t(2 * size + 1));
    EXPECT_EQ(task->chance(1), 1.0 / size);
    // A group: g h depends on (g, h) alone, h -> g h and g -> g h are one to one, element 0 is the
    // identity. From windows "h ? s h' ? s'": s' is s h'.
    std::map<std::pair<int64_t, int64_t>, int64_t> product;
    Generator random(4);
    for (int i = 0; i < (size > 24 ? 2000 : 20000); ++i)
      for (const TaskWindow& w : task->document(random)) {
        if (w.size() < 6) continue;
        EXPECT_EQ(w[5].distance, 0);
        const std::pair<int64_t, int64_t> of{w[2].word - size, w[3].word};
        const int64_t is = w[5].word - size;
        EXPECT_EQ(product.emplace(of, is).first->second, is) << group;
        EXPECT_TRUE(of.second != 0 || is == of.first);
        EXPECT_TRUE(of.first != 0 || is == of.second);
      }
    if (size > 24) continue;
    ASSERT_EQ(product.size(), size_t(size * size)) << group;
    int commuting = 0;
    for (int64_t a = 0; a < size; ++a) {
      std::set<int64_t> left, right;
      for (int64_t b = 0; b < size; ++b) {
        left.insert(product.at({a, b}));
        right.insert(product.at({b, a}));
        commuting += product.at({a, b}) == product.at({b, a});
      }
      EXPECT_EQ(int64_t(left.size()), size);
      EXPECT_EQ(int64_t(right.size()), size);
    }
    // The share of pairs that commute is the number of conjugacy classes over the order.
    const int classes = std::string(group) == "s3" ? 3 : std::string(group) == "s4" ? 5 : size;
    EXPECT_EQ(commuting, classes * size) << group;
  }
  EXPECT_THROWS_SAYING(component_of({{"type", "automaton"}, {"distances", {0}}}), ConfigError,
                       "distances must name one of 1 window or more");
}

TEST(Tracking, ReadsAsAStory) {
  const auto text = [](int facts) {
    const auto task = make_task({{"type", "tracking"},
                                 {"facts", facts},
                                 {"stories", 1},
                                 {"distractors", 0},
                                 {"window", 80},
                                 {"windows", 2},
                                 {"distances", {1}}});
    Generator random(1);
    return text_of(*task, task->document(random));
  };
  EXPECT_THAT(text(1),
              ::testing::MatchesRegex("person([0-9]+) went to the room([0-9]+) . . "
                                      "person.* went to the room.* . . where is person[0-9]+ "
                                      "room[0-9]+.1. . . "))
      << text(1);
  EXPECT_THAT(text(2), HasSubstr("? where is the thing")) << text(2);
  EXPECT_THAT(text(3), HasSubstr("? where was the thing")) << text(3);
  EXPECT_EQ(
      make_task({{"type", "tracking"}, {"facts", 3}, {"rooms", 5}, {"window", 80}})->chance(1),
      0.25);
  EXPECT_THROWS_SAYING(component_of({{"type", "tracking"}, {"people", 6}}), ConfigError,
                       "need 7 people and 0 things");
}

// ---- a user's own -------------------------------------------------------------------------------

struct BrokenOptions final : TaskOptions {
  std::string fault;
  void fields(Fields& f) override {
    TaskOptions::fields(f);
    f.text("fault", fault, {}, "what is wrong with it");
  }
};
class BrokenTask final : public GeneratedTask {
 public:
  explicit BrokenTask(const BrokenOptions& o) : GeneratedTask(o), fault_(o.fault) {}
  std::vector<std::string> words() const override {
    if (fault_ == "word") return {"two words"};
    if (fault_ == "twice") return {"a", "b", "a"};
    if (fault_ == "mark") return {"a", "#"};
    return {"a", "b"};
  }
  double chance(int64_t) const override { return 1; }
  std::vector<TaskWindow> document(Generator&) const override {
    std::vector<TaskWindow> windows(size_t(options().windows), TaskWindow(3));
    for (size_t i = 0; i < options().distances.size(); ++i)
      windows.back().at(i).distance = options().distances[i];
    if (fault_ == "windows") windows.pop_back();
    if (fault_ == "long") windows[1].resize(size_t(options().window));
    if (fault_ == "unknown") windows[1][1].word = 2;
    if (fault_ == "future") windows[1][1].distance = 2;
    return windows;
  }

 private:
  std::string fault_;
};
REVERIE_REGISTER_TASK("test_broken", BrokenTask, BrokenOptions, "breaks one promise");

TEST(ATaskOfAUser, IsHeldToWhatItPromises) {
  const TemporaryDirectory directory;
  const auto prepare = [&](const std::string& fault) {
    DataOptions o;
    o.generated = component_of({{"type", "test_broken"}, {"fault", fault}});
    o.prepared_directory = directory / "d";
    prepare_and_open(o);
  };
  EXPECT_THROWS_SAYING(prepare("word"), UserError, "has the word 'two words'");
  EXPECT_THROWS_SAYING(prepare("twice"), UserError, "has the word 'a' twice");
  EXPECT_THROWS_SAYING(prepare("mark"), UserError, "has the word '#' twice");
  EXPECT_THROWS_SAYING(prepare("windows"), UserError, "3 windows of a document; wanted 4");
  EXPECT_THROWS_SAYING(prepare("long"), UserError, "64 tokens into a window of 64, which has room");
  EXPECT_THROWS_SAYING(prepare("unknown"), UserError, "wrote word 2 of 2");
  EXPECT_THROWS_SAYING(prepare("future"), UserError, "with distance 2 in window 1");
  EXPECT_FALSE(fs::exists(directory / "d"));
  prepare("");
}

// ---- data sets ----------------------------------------------------------------------------------

class TaskDataset : public ::testing::Test {
 protected:
  DataOptions options(Json changes = Json::object()) const {
    Json json = {{"type", "recall"}, {"pairs", 2},         {"questions", 6},
                 {"keys", 8},        {"values", 4},        {"window", 20},
                 {"windows", 3},     {"documents", 40},    {"validation_documents", 7},
                 {"seed", 3},        {"test_documents", 5}};
    json.update(changes);
    DataOptions o;
    o.generated = component_of(json);
    o.prepared_directory = directory_ / "recall";
    return o;
  }
  TemporaryDirectory directory_;
};

TEST_F(TaskDataset, HasThreeSplitsAndLabels) {
  const Dataset data = prepare_and_open(options());
  ASSERT_TRUE(data.task);
  EXPECT_EQ(data.task->type, "recall");
  EXPECT_EQ(data.name(), "recall");
  EXPECT_EQ(data.task->document_length(), 60);
  EXPECT_THAT(data.task->distances, ElementsAre(0, 1, 2));
  EXPECT_THAT(data.task->chance, ElementsAre(0.25, 0.25, 0.25));
  EXPECT_EQ(data.train.count(), 40 * 60 + 1);
  EXPECT_EQ(data.validation.count(), 7 * 60 + 1);
  EXPECT_EQ(data.test.count(), 5 * 60 + 1);
  EXPECT_EQ(data.vocabulary_size(), 8 + 4 + 1 + 3);
  ASSERT_TRUE(data.documents);
  EXPECT_EQ(data.tokenizer->decode(std::vector<int32_t>{data.documents->token}), "#");
  EXPECT_TRUE(data.documents->begins);

  std::vector<int32_t> tokens(60), distances(60);
  data.validation.copy(60, tokens);
  read_distances(data.validation_answers, 60, distances);
  EXPECT_EQ(tokens[0], data.documents->token);
  int64_t answers = 0;
  for (size_t i = 0; i < tokens.size(); ++i) {
    const std::string word = data.tokenizer->decode(std::vector<int32_t>{tokens[i]});
    EXPECT_EQ(word == "#", i == 0);
    EXPECT_EQ(word == "\n", i == 20 || i == 40);
    if (distances[i] < 0) continue;
    ++answers;
    EXPECT_TRUE(word.starts_with(" v")) << word;
    EXPECT_LE(distances[i], int64_t(i / 20));
  }
  EXPECT_EQ(answers, 3 * 6) << "six questions in each window";
  int64_t counted = 0;
  for (const auto& [distance, count] : data.provenance["validation"]["answers"].items())
    counted += count.get<int64_t>();
  EXPECT_EQ(counted, 7 * 3 * 6);
}

TEST_F(TaskDataset, IsReadableAsText) {
  const Dataset data = prepare_and_open(options());
  const std::string text = read_file(directory_ / "recall/documents.txt");
  EXPECT_THAT(text, HasSubstr("document 6, window 2\n\\n k"));
  std::vector<int32_t> tokens(20);
  data.validation.copy(0, tokens);
  EXPECT_THAT(text, HasSubstr(fmt::format("\n{}\n", fmt::join(tokens, " "))));
  EXPECT_THAT(text, ::testing::ContainsRegex("k[0-9] v[0-9]\\[0\\]"));
}

TEST_F(TaskDataset, IsMadeAgainWhereAnyOptionDiffers) {
  const Dataset data = prepare_and_open(options());
  EXPECT_EQ(prepare_and_open(options()).hash, data.hash);
  EXPECT_EQ(prepared_hash(describe_dataset(options())), data.hash);
  EXPECT_THROWS_SAYING(prepare_and_open(options({{"seed", 4}})), UserError,
                       "other options: generated.seed: 3 -> 4");
  EXPECT_THROWS_SAYING(prepare_and_open(options({{"loss", "all"}})), UserError, "generated.loss");
  DataOptions named;
  named.path = directory_ / "recall";
  const Dataset by_path = prepare_and_open(named);
  EXPECT_EQ(by_path.hash, data.hash);
  EXPECT_EQ(by_path.task->windows, 3);
  fs::remove(directory_ / "recall/test_answers.tok");
  EXPECT_EQ(find_prepared_data(describe_dataset(options())), PreparedData::other);
  // Every option is part of the name of a directory that the config does not name.
  std::set<std::string> directories;
  const Json resolved = *options().generated.resolved;
  for (const auto& [key, value] : resolved.items()) {
    if (key == "type") continue;
    DataOptions o = options({{key, key == "loss"        ? Json("all")
                                   : key == "distances" ? Json({1})
                                   : key == "pairs"     ? Json(1)
                                                        : Json(value.get<int64_t>() + 1)}});
    o.prepared_directory = "";
    directories.insert(describe_dataset(o).directory);
  }
  EXPECT_EQ(directories.size(), resolved.size() - 1);
}

TEST_F(TaskDataset, RefusesWhatBelongsToTexts) {
  DataOptions o = options();
  o.path = "text.txt";
  EXPECT_THROWS_SAYING(describe_dataset(o), UserError, "data.path does not apply");
  o = options();
  o.tokenizer = "gpt2";
  EXPECT_THROWS_SAYING(describe_dataset(o), UserError, "data.tokenizer does not apply");
  o = options();
  o.document_separator = "\n";
  EXPECT_THROWS_SAYING(describe_dataset(o), UserError, "data.document_separator does not apply");
  EXPECT_THROWS_SAYING(component_of({{"type", "recal"}}), ConfigError, "recall");
  EXPECT_THROWS_SAYING(prepare_and_open(options()).require_vocabulary(15), UserError,
                       "vocabulary_size 15 is smaller than that of the data set recall, 16");
}

TEST_F(TaskDataset, DamagedLabelsAreRefused) {
  const Dataset data = prepare_and_open(options());
  const std::string file = directory_ / "recall/validation_answers.tok";
  TokenFileWriter writer(file, 4, "", "");
  writer.append(std::vector<int32_t>(10, 0));
  writer.finish();
  EXPECT_THROWS_SAYING(open_dataset(describe_dataset(options())), DataError,
                       "has labels of 10 tokens");
}

TEST_F(TaskDataset, BatchesAreWindowsOfWholeDocuments) {
  const Dataset data = prepare_and_open(options());
  const TaskSampler sampler(data.train, data.train_rule(), 4, 20, 9);
  std::set<int64_t> documents;
  for (int64_t i = 0; i < 30; ++i) {
    EXPECT_EQ(sampler.begins_texts(i), i % 3 == 0);
    const Batch batch = sampler.batch(i);
    EXPECT_EQ(sampler.target_count(i), batch.target_count);
    int64_t kept = 0;
    for (int64_t row = 0; row < 4; ++row) {
      const int64_t start = sampler.window_start(i, row);
      EXPECT_EQ(start % 60, i % 3 * 20);
      EXPECT_EQ(start / 60, sampler.window_start(i - i % 3, row) / 60) << "of one document";
      documents.insert(start / 60);
      std::vector<int32_t> distances(20);
      read_distances(data.train_answers, start + 1, distances);
      for (int64_t t = 0; t < 20; ++t) {
        const int32_t target = batch.targets.data<int32_t>()[row * 20 + t];
        EXPECT_EQ(target >= 0, distances[size_t(t)] >= 0);
        if (target < 0) continue;
        EXPECT_EQ(target, data.train[start + t + 1]);
        ++kept;
      }
    }
    EXPECT_EQ(kept, batch.target_count);
  }
  EXPECT_GT(documents.size(), 20u);
  // All tokens, where the loss counts them.
  DataOptions all = options({{"loss", "all"}});
  all.prepared_directory = directory_ / "all";
  const Dataset every = prepare_and_open(all);
  EXPECT_EQ(TaskSampler(every.train, every.train_rule(), 4, 60, 9).batch(0).target_count, 4 * 60);
}

TEST_F(TaskDataset, EvaluationReadsWholeDocuments) {
  const Dataset data = prepare_and_open(options());
  const auto over = [&](int64_t block, int64_t count) {
    return EvaluationWindows::over(data.validation, data.validation_rule(), 4, block, count);
  };
  EXPECT_EQ(over(20, 0).window_count(), 21);
  const EvaluationWindows some = over(20, 7);
  ASSERT_EQ(some.window_count(), 9) << "three documents hold seven windows";
  for (int64_t w = 0; w < 9; ++w) EXPECT_EQ(some.window_start(w), w / 3 * 7 / 3 * 60 + w % 3 * 20);
  int64_t targets = 0;
  for (int64_t i = 0; i < over(60, 0).batch_count(); ++i)
    targets += over(60, 0).batch(i).target_count;
  EXPECT_EQ(targets, 7 * 3 * 6);
}

// What carried losses are taken on: documents from their mark on, of whose targets answers alone are
// kept.
TEST_F(TaskDataset, ConsecutiveWindowsKeepTheAnswers) {
  const Dataset data = prepare_and_open(options());
  const ConsecutiveWindows windows(data.validation, data.documents, 4, 20, 0,
                                   data.validation_rule());
  EXPECT_TRUE(windows.documents());
  EXPECT_EQ(windows.text_count(), 7);
  EXPECT_EQ(windows.window_count(), 21);
  int64_t targets = 0, kept = 0;
  for (int64_t group = 0; group < windows.group_count(); ++group)
    for (int64_t w = 0; w < windows.windows_in(group); ++w) {
      const Batch batch = windows.batch(group, w);
      targets += batch.target_count;
      for (const double t : batch.targets.to_vector()) kept += t >= 0;
      for (int64_t row = 0; row < batch.tokens.size(0); ++row)
        EXPECT_EQ(batch.tokens.data<int32_t>()[row * 20] == data.documents->token, w == 0);
    }
  EXPECT_EQ(targets, 7 * 3 * 6);
  EXPECT_EQ(kept, targets);
}

TEST_F(TaskDataset, BlocksThatAreNoWindowsAreRefused) {
  const Dataset data = prepare_and_open(options());
  for (const int64_t block : {10, 13, 40, 120}) {
    EXPECT_THROWS_SAYING(TaskSampler(data.train, data.train_rule(), 4, block, 9), UserError,
                         fmt::format("block_size {} does not fit the task recall, whose documents "
                                     "are 3 windows of 20 tokens",
                                     block));
    EXPECT_THROWS_SAYING(
        EvaluationWindows::over(data.validation, data.validation_rule(), 4, block, 0), UserError,
        "does not fit the task");
  }
}

}  // namespace
}  // namespace reverie
