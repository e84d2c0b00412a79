// Tracking people and things (bAbI tasks 1 to 3 in kind, Weston et al. 2015, arXiv 1502.05698; far
// apart as in BABILong, arXiv 2406.10149): stories among sentences about others, and questions.
//   facts 1: mary went to the kitchen. ? where is mary kitchen.
//   facts 2: mary took the milk. mary went to the kitchen. ? where is the milk kitchen.
//   facts 3: mary took the milk. mary went to the kitchen. mary went to the garden.
//            ? where was the milk before the garden kitchen.
// A story is about one person and one thing, of whom nothing else is said until its question is
// behind.

#include <fmt/format.h>

#include <algorithm>
#include <sstream>
#include <unordered_map>

#include "core/error.h"
#include "datasets/tasks/schedule.h"

namespace reverie {
namespace {

struct TrackingOptions final : TaskOptions {
  int64_t facts = 1, stories = 2, distractors = 2, people = 12, things = 12, rooms = 8;
  void fields(Fields& f) override {
    TaskOptions::fields(f);
    f.integer("facts", facts, {1, 3},
              "facts that an answer needs: 1 where a person is, 2 where a thing is that someone "
              "carries, 3 where it was before");
    f.integer("stories", stories, {1, 1 << 10}, "stories, and most questions, of a window");
    f.integer("distractors", distractors, {0, 1 << 10}, "sentences of a window about others");
    f.integer("people", people, {2, 1 << 16}, "different people");
    f.integer("things", things, {1, 1 << 16}, "different things");
    f.integer("rooms", rooms, {3, 1 << 16},
              "different rooms; chance is 1 / rooms, or 1 / (rooms - 1) with 3 facts");
    const int64_t tokens = 1 + stories * (story_tokens() + question_tokens()) + 6 * distractors;
    f.rule(tokens <= window,
           fmt::format("{} stories of {} facts, their questions and {} distractors take {} tokens, "
                       "and window is {}",
                       stories, facts, distractors, tokens, window));
    if (distances.empty()) return;
    const int64_t busy = stories * (furthest_distance(*this) + 1);
    f.rule(busy + (distractors > 0) <= people && (facts == 1 || busy <= things),
           fmt::format("{} stories a window and distance {} need {} people and {} things, so that "
                       "a question has one answer, and people is {}, things {}",
                       stories, furthest_distance(*this), busy + (distractors > 0),
                       facts == 1 ? 0 : busy, people, things));
  }
  int64_t story_tokens() const { return facts == 1 ? 6 : facts == 2 ? 11 : 17; }
  int64_t question_tokens() const { return facts == 1 ? 6 : facts == 2 ? 7 : 10; }
};

class Tracking final : public GeneratedTask {
 public:
  explicit Tracking(const TrackingOptions& o) : GeneratedTask(o), o_(o) {
    const auto add = [&](std::vector<std::string> some) {
      words_.insert(words_.end(), some.begin(), some.end());
    };
    const auto numbered = [&](const char* kind, int64_t count) {
      for (int64_t i = 0; i < count; ++i) words_.push_back(fmt::format("{}{}", kind, i));
    };
    add({"went", "to", "the", "took", "where", "is", "was", "before", "?", "."});
    numbered("person", o.people);
    numbered("thing", o.things);
    numbered("room", o.rooms);
    for (const std::string& word : words_) numbers_.emplace(word, int64_t(numbers_.size()));
  }
  std::vector<std::string> words() const override { return words_; }
  // Rooms are uniform, whatever stands in the window that asks, except that a thing was before in
  // another room than the question names.
  double chance(int64_t) const override {
    return 1 / double(o_.facts == 3 ? o_.rooms - 1 : o_.rooms);
  }

  // A question begins with "?", and its answer and full stop end it.
  std::vector<TaskSentence> facts(std::span<const int64_t> told) const override {
    std::vector<TaskSentence> all;
    TaskSentence sentence;
    for (const int64_t word : told) {
      sentence.push_back(word);
      if (words_[size_t(word)] != ".") continue;
      if (words_[size_t(sentence[0])] != "?") all.push_back(sentence);
      sentence.clear();
    }
    return all;
  }
  // A story is about one person, of whom nothing else is said until the question is behind.
  std::vector<TaskSentence> steps(std::span<const int64_t> told) const override {
    const auto question = std::find(told.rbegin(), told.rend(), number_of("?")).base();
    const std::span<const int64_t> before(told.begin(),
                                          question == told.begin() ? question : question - 1),
        asked(question, told.end());
    const auto mentions = [](const TaskSentence& s, int64_t word) {
      return std::find(s.begin(), s.end(), word) != s.end();
    };
    const auto all = facts(before);
    // The last word of "where is person3"; the fourth of "where is the thing4", "where was the thing4
    // before the room5".
    const size_t place = o_.facts == 1 ? 2 : 3;
    require(asked.size() > place, "the words {} are no question of the task tracking",
            fmt::join(asked, " "));
    auto first = all.rbegin();
    while (first != all.rend() && !mentions(*first, asked[place])) ++first;
    require(first != all.rend(), "nothing was told of what the question asks for");
    std::vector<TaskSentence> steps;
    for (auto s = first.base() - 1; s != all.end(); ++s)
      if (s->front() == first->front()) steps.push_back(*s);
    return steps;
  }

  std::vector<TaskWindow> document(Generator& random) const override {
    const auto questions = draw_questions(o_, o_.stories, o_.stories, random);
    std::vector<std::vector<Story>> stories;  // by window
    std::vector<TaskWindow> windows;
    for (int64_t w = 0; w < o_.windows; ++w) {
      stories.push_back(new_stories(stories, random));
      std::vector<std::string> sentences;
      for (const Story& s : stories.back()) sentences.push_back(told(s));
      const auto busy = held(stories, w + 1, furthest_distance(o_) + 1, &Story::person);
      for (int64_t i = 0; i < o_.distractors; ++i)
        sentences.push_back(moved(draw_apart(1, o_.people, busy, random)[0], room(random)));
      shuffle(sentences, random);
      TaskWindow tokens;
      for (const std::string& s : sentences) add(tokens, s);
      for (const auto& [distance, fact] : questions[size_t(w)]) {
        const Story& s = stories[size_t(w - distance)][size_t(fact)];
        add(tokens, question(s));
        tokens.push_back({number_of(fmt::format("room{}", s.answer)), distance});
        add(tokens, ".");
      }
      windows.push_back(std::move(tokens));
    }
    return windows;
  }

 private:
  struct Story {
    int64_t person, thing, answer, later;  // later: the room after it, with 3 facts
  };
  int64_t room(Generator& random) const { return int64_t(random.below(uint64_t(o_.rooms))); }
  // Numbers that the stories of windows end - count .. end - 1 hold.
  static std::vector<int64_t> held(const std::vector<std::vector<Story>>& stories, int64_t end,
                                   int64_t count, int64_t Story::*number) {
    std::vector<int64_t> all;
    for (int64_t w = std::max<int64_t>(0, end - count); w < end; ++w)
      for (const Story& s : stories[size_t(w)]) all.push_back(s.*number);
    return all;
  }
  std::vector<Story> new_stories(const std::vector<std::vector<Story>>& before,
                                 Generator& random) const {
    const auto free = [&](int64_t of, int64_t Story::*number) {
      return draw_apart(o_.stories, of,
                        held(before, int64_t(before.size()), furthest_distance(o_), number),
                        random);
    };
    const auto people = free(o_.people, &Story::person);
    const auto things =
        o_.facts == 1 ? std::vector<int64_t>(people.size(), 0) : free(o_.things, &Story::thing);
    std::vector<Story> stories;
    for (size_t i = 0; i < people.size(); ++i) {
      const auto rooms = draw_apart(2, o_.rooms, {}, random);
      stories.push_back({people[i], things[i], rooms[0], rooms[1]});
    }
    return stories;
  }
  static std::string moved(int64_t person, int64_t room) {
    return fmt::format("person{} went to the room{} .", person, room);
  }
  std::string told(const Story& s) const {
    std::string text;
    if (o_.facts >= 2) text = fmt::format("person{} took the thing{} . ", s.person, s.thing);
    text += moved(s.person, s.answer);
    if (o_.facts == 3) text += " " + moved(s.person, s.later);
    return text;
  }
  std::string question(const Story& s) const {
    if (o_.facts == 1) return fmt::format("? where is person{}", s.person);
    if (o_.facts == 2) return fmt::format("? where is the thing{}", s.thing);
    return fmt::format("? where was the thing{} before the room{}", s.thing, s.later);
  }
  static void shuffle(std::vector<std::string>& sentences, Generator& random) {
    for (size_t i = sentences.size(); i > 1; --i)
      std::swap(sentences[i - 1], sentences[size_t(random.below(i))]);
  }
  int64_t number_of(const std::string& word) const { return numbers_.at(word); }
  void add(TaskWindow& tokens, const std::string& text) const {
    std::istringstream words(text);
    for (std::string word; words >> word;) tokens.push_back({number_of(word)});
  }

  TrackingOptions o_;
  std::vector<std::string> words_;
  std::unordered_map<std::string, int64_t> numbers_;
};

REVERIE_REGISTER_TASK("tracking", Tracking, TrackingOptions,
                      "people who move and carry things among others, and where they are");

}  // namespace
}  // namespace reverie
