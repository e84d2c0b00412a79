// Reachability in a directed graph, in the form of ProsQA (Hao et al. 2024, arXiv 2412.06769, appendix
// A.2): two roots, and concepts of which each is reached from one of them, from both, or from neither.
// The question offers a concept that the asked root reaches and one that it does not; both are leaves.
//   Tom is a terpus. Every terpus is a brimpus. ... Is Tom a lempus or scrompus?
// With the defaults its means over 2,000 problems are within 3 % of ProsQA's: 22.8 nodes, 36 edges,
// 3.8 steps.

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <numbers>
#include <numeric>
#include <optional>
#include <vector>

#include "core/error.h"
#include "datasets/problems/problem_generator.h"

namespace reverie {
namespace {

constexpr std::array kEntities = {"Alex",    "Bob",  "Carol",  "Davis",  "Eva",   "Fae",
                                  "Gabriel", "Jack", "Max",    "Oliver", "Polly", "Rex",
                                  "Sally",   "Sam",  "Stella", "Tom",    "Wren"};
constexpr std::array kConcepts = {
    "bompus",  "boompus", "brimpus", "chorpus", "dumpus",  "felpus", "fompus", "gerpus",
    "gorpus",  "grimpus", "gwompus", "hilpus",  "impus",   "jelpus", "jompus", "kerpus",
    "lempus",  "lorpus",  "numpus",  "quimpus", "rempus",  "rompus", "rorpus", "scrompus",
    "shumpus", "sterpus", "storpus", "terpus",  "timpus",  "tumpus", "vumpus", "worpus",
    "wumpus",  "yerpus",  "yimpus",  "yumpus",  "zhorpus", "zumpus"};
constexpr double kNoParent = 0.025;  // share of nodes that nothing leads to, besides the roots
constexpr int64_t kMostGraphs = 100000;

struct ReachabilityOptions final : ProblemOptions {
  double nodes = 22.7, nodes_deviation = 2, parents = 1.8;
  std::vector<int64_t> steps = {3, 4, 5, 6};
  std::vector<double> step_weights = {0.41, 0.44, 0.12, 0.03};
  int64_t edges_at_most = 53;  // as ProsQA's own problems have
  std::string wording = "sentences";
  void fields(Fields& f) override {
    ProblemOptions::fields(f);
    f.number("nodes", nodes, {6, 36}, "mean number of nodes, the two roots included");
    f.number("nodes_deviation", nodes_deviation, {0, 8}, "its standard deviation");
    f.number("parents", parents, {0.1, 8},
             "parameter of the Poisson distribution of edges into a node, which has one at least");
    f.integer(
        "edges_at_most", edges_at_most, kPositive,
        "larger graphs are drawn again: the longest problem decides the length of all records");
    f.integers("steps", steps, {1, 30}, "lengths of the shortest path to the answer");
    f.numbers("step_weights", step_weights, {0, 1e6}, "how often each of these lengths comes");
    f.text("wording", wording, {"sentences", "short"},
           "sentences: as ProsQA has them; short: an edge is two words, half as many tokens");
    f.rule(!steps.empty() && steps.size() == step_weights.size() &&
               std::accumulate(step_weights.begin(), step_weights.end(), 0.0) > 0,
           fmt::format("{} steps have {} step_weights: wanted as many, not all of them 0",
                       steps.size(), step_weights.size()));
  }
};

struct Graph {
  std::vector<std::pair<int64_t, int64_t>> edges;
  std::vector<bool> has_parent, is_leaf;
  std::vector<int> roots;  // of each node, from which roots it is reached: bits 1 and 2
};

int64_t poisson(double mean, Generator& random) {
  const double limit = std::exp(-mean);
  int64_t count = 0;
  for (double product = random.uniform(); product >= limit; product *= random.uniform()) ++count;
  return count;
}
size_t weighted(const std::vector<double>& weights, Generator& random) {
  double left = random.uniform() * std::accumulate(weights.begin(), weights.end(), 0.0);
  for (size_t i = 0; i < weights.size(); ++i) {
    left -= weights[i];
    if (left < 0) return i;
  }
  return weights.size() - 1;
}
template <class T>
void shuffle(std::vector<T>& list, Generator& random) {
  for (size_t i = list.size(); i > 1; --i) std::swap(list[i - 1], list[random.below(i)]);
}

class Reachability final : public ProblemGenerator {
 public:
  explicit Reachability(const ReachabilityOptions& o) : ProblemGenerator(o), o_(o) {}

  double chance() const override { return 0.5; }  // between the two that are offered, in any order
  std::string vocabulary() const override {
    std::string text = "Every is a Is or.?";
    for (const char* name : kEntities) text += fmt::format(" {}", name);
    for (const char* name : kConcepts) text += fmt::format(" {}", name);
    return text;
  }
  Problem problem(Generator& random) const override {
    const int64_t wanted = o_.steps[weighted(o_.step_weights, random)];
    for (int64_t i = 0; i < kMostGraphs; ++i) {
      const Graph graph = draw_graph(random);
      if (int64_t(graph.edges.size()) > o_.edges_at_most) continue;
      if (const auto problem = asked_of(graph, wanted, random)) return *problem;
    }
    throw ConfigError(fmt::format(
        "$.data.problems: none of {} graphs of about {} nodes has a shortest path of {} steps: "
        "raise \"nodes\", or leave that length out of \"steps\"",
        kMostGraphs, o_.nodes, wanted));
  }

 private:
  int64_t draw_size(Generator& random) const {
    const double normal = std::sqrt(-2 * std::log(1 - random.uniform())) *
                          std::cos(2 * std::numbers::pi * random.uniform());
    return std::clamp<int64_t>(std::lround(o_.nodes + o_.nodes_deviation * normal), 6,
                               int64_t(kConcepts.size()) - 2);
  }
  // Nodes one after another; each has parents of one root's family, of the other's, or any.
  Graph draw_graph(Generator& random) const {
    const int64_t size = draw_size(random);
    Graph g;
    g.roots = {1, 2};
    g.has_parent.assign(size_t(size), false);
    g.is_leaf.assign(size_t(size), true);
    std::vector<int64_t> depth = {0, 0};
    for (int64_t node = 2; node < size; ++node) {
      const double family = random.uniform();
      const int other = family <= 0.35 ? 2 : family <= 0.7 ? 1 : 0;  // root that none may have
      std::vector<int64_t> parents;
      std::vector<double> weights;
      for (int64_t i = 0; i < node; ++i)
        if ((g.roots[size_t(i)] & other) == 0) {
          parents.push_back(i);
          weights.push_back(1 + 1.5 * double(depth[size_t(i)]));
        }
      int64_t count =
          random.uniform() < kNoParent ? 0 : std::max<int64_t>(1, poisson(o_.parents, random));
      int roots = 0;
      int64_t nearest = -1;
      for (; count > 0 && !parents.empty(); --count) {
        const size_t at = weighted(weights, random);
        const int64_t parent = parents[at];
        parents.erase(parents.begin() + std::ptrdiff_t(at));
        weights.erase(weights.begin() + std::ptrdiff_t(at));
        g.edges.emplace_back(parent, node);
        g.is_leaf[size_t(parent)] = false;
        g.has_parent[size_t(node)] = true;
        roots |= g.roots[size_t(parent)];
        if (nearest < 0 || depth[size_t(parent)] < nearest) nearest = depth[size_t(parent)];
      }
      g.roots.push_back(roots);
      depth.push_back(nearest + 1);
    }
    return g;
  }
  // The node before each on a shortest path from the first root, and the distances; -1: none.
  static std::pair<std::vector<int64_t>, std::vector<int64_t>> paths(const Graph& g) {
    std::vector<int64_t> before(g.roots.size(), -1), distance(g.roots.size(), -1), queue = {0};
    distance[0] = 0;
    for (size_t i = 0; i < queue.size(); ++i)
      for (const auto& [from, to] : g.edges)
        if (from == queue[i] && distance[size_t(to)] < 0) {
          distance[size_t(to)] = distance[size_t(from)] + 1;
          before[size_t(to)] = from;
          queue.push_back(to);
        }
    return {before, distance};
  }
  // Asks for the farthest leaf of the first root's own family, where it is `wanted` steps away.
  std::optional<Problem> asked_of(const Graph& g, int64_t wanted, Generator& random) const {
    const auto [before, distance] = paths(g);
    std::vector<int64_t> right, wrong;
    int64_t farthest = 0;
    for (int64_t i = 2; i < int64_t(g.roots.size()); ++i) {
      if (!g.is_leaf[size_t(i)] || !g.has_parent[size_t(i)]) continue;
      if (g.roots[size_t(i)] == 1) {
        if (distance[size_t(i)] > farthest) right.clear();
        farthest = std::max(farthest, distance[size_t(i)]);
        if (distance[size_t(i)] == farthest) right.push_back(i);
      } else if (g.roots[size_t(i)] == 2) {
        wrong.push_back(i);
      }
    }
    if (farthest != wanted || wrong.empty()) return std::nullopt;
    return worded(g, before, right[random.below(right.size())], wrong[random.below(wrong.size())],
                  random);
  }
  std::string edge_text(const std::vector<std::string>& names, const Graph& g, int64_t from,
                        int64_t to) const {
    const std::string &a = names[size_t(from)], &b = names[size_t(to)];
    if (o_.wording == "short") return fmt::format("{} {}.", a, b);
    return g.has_parent[size_t(from)] ? fmt::format("Every {} is a {}.", a, b)
                                      : fmt::format("{} is a {}.", a, b);
  }
  Problem worded(const Graph& g, const std::vector<int64_t>& before, int64_t right, int64_t wrong,
                 Generator& random) const {
    std::vector<std::string> entities(kEntities.begin(), kEntities.end()),
        concepts(kConcepts.begin(), kConcepts.end()), names;
    shuffle(entities, random);
    shuffle(concepts, random);
    for (const bool has_parent : g.has_parent) {
      std::vector<std::string>& list = !has_parent && !entities.empty() ? entities : concepts;
      names.push_back(list.back());
      list.pop_back();
    }
    std::vector<std::pair<int64_t, int64_t>> edges = g.edges;
    shuffle(edges, random);
    Problem p;
    std::vector<std::string> facts;
    for (const auto& [from, to] : edges) {
      facts.push_back(edge_text(names, g, from, to));
      p.example.question += facts.back() + " ";
    }
    const bool right_first = random.below(2) == 0;
    const std::string &first = names[size_t(right_first ? right : wrong)],
                      &second = names[size_t(right_first ? wrong : right)];
    p.example.question += o_.wording == "short"
                              ? fmt::format("{} {} {}?", names[0], first, second)
                              : fmt::format("Is {} a {} or {}?", names[0], first, second);
    for (int64_t at = right; before[size_t(at)] >= 0; at = before[size_t(at)])
      p.example.steps.push_back(edge_text(names, g, before[size_t(at)], at));
    std::reverse(p.example.steps.begin(), p.example.steps.end());
    p.example.answer = o_.wording == "short"
                           ? names[size_t(right)]
                           : fmt::format("{} is a {}.", names[0], names[size_t(right)]);
    std::sort(facts.begin(), facts.end());
    for (const std::string& fact : facts) p.identity += fact;
    p.identity +=
        fmt::format("{} {} {}", names[0], std::min(first, second), std::max(first, second));
    return p;
  }

  ReachabilityOptions o_;
};

REVERIE_REGISTER_PROBLEMS("reachability", Reachability, ReachabilityOptions,
                          "which of two nodes a root reaches in a graph, in ProsQA's form");

}  // namespace
}  // namespace reverie
