#include "trainers/evaluation/latent_canary.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/random.h"
#include "trainers/probes/cut_sweep.h"
#include "trainers/probes/probing_mode.h"
#include "trainers/probes/rounding.h"
#include "trainers/probes/separate_group.h"

namespace reverie {
namespace {

// i32 [batch, groups], rising in each text, at random among the places where insertions may stand.
Tensor drawn_limits(const AugmentedModel& model, int64_t batch, int64_t time,
                    const LatentSizes& sizes, int64_t turn) {
  const int64_t first = 1 + model.options().delay, last = time + 1 - sizes.ahead;
  require(last >= first, "a text of {} tokens is too short for {} tokens ahead", time, sizes.ahead);
  Generator random(uint64_t(turn) + 1);
  Tensor limits = Tensor::empty({batch, sizes.groups}, DType::i32);
  int32_t* limit = limits.mutable_data<int32_t>();
  for (int64_t b = 0; b < batch; ++b, limit += sizes.groups) {
    for (int64_t g = 0; g < sizes.groups; ++g)
      limit[g] = int32_t(first + int64_t(random.below(uint64_t(last - first + 1))));
    std::sort(limit, limit + sizes.groups);
  }
  return limits;
}

int64_t limit_of(const Tensor& limits, int64_t text, int64_t group) {
  return limits.data<int32_t>()[text * limits.size(1) + group];
}

std::string sizes_in_words(AugmentedModel& model, const Tensor& tokens, const LatentSizes& sizes,
                           const Asking& asking, const Rounding& rounding) {
  return fmt::format(
      "{} mode, {} texts of {} tokens, {} groups, {} tokens ahead, {}{}{}",
      asking.train ? "train" : "eval", tokens.size(0), tokens.size(1), sizes.groups, sizes.ahead,
      rounding.text, asking.precision == MatmulPrecision::bf16 ? ", bf16" : "",
      model.source().asks_for_whole_text() ? ", the source asks for the whole text" : "");
}

// Which group of each text is cut in each forward; -1: the text stays whole.
std::vector<std::vector<int64_t>> plan_groups(int64_t texts, int64_t groups, int64_t most,
                                              int64_t turn) {
  const int64_t in_one = std::max<int64_t>(1, texts - 1), needed = (groups + in_one - 1) / in_one,
                forwards = most > 0 ? std::min(most, needed) : needed;
  std::vector<std::vector<int64_t>> plan;
  int64_t next = turn * forwards * in_one;
  for (int64_t f = 0; f < forwards; ++f) {
    std::vector<int64_t> of_texts(static_cast<size_t>(texts), -1);
    for (int64_t b = 0; b < texts; ++b)
      if (texts == 1 || b != (f + turn) % texts) of_texts[size_t(b)] = next++ % groups;
    plan.push_back(std::move(of_texts));
  }
  return plan;
}

// Largest |difference| of latents [B, G * N, ..], relative to the largest |latent|, over the groups
// for which `may_not_move` says so.
double latents_moved(const Tensor& base, const Tensor& moved, int64_t groups,
                     const std::function<bool(int64_t text, int64_t group)>& may_not_move) {
  const Tensor a = base.to(Device{}).to(DType::f64).contiguous(),
               b = moved.to(Device{}).to(DType::f64).contiguous();
  const int64_t of_group = a.numel() / a.size(0) / groups;
  double largest = 0, size = 1;
  for (int64_t i = 0; i < a.numel(); ++i) {
    const int64_t group = i / of_group;
    if (!may_not_move(group / groups, group % groups)) continue;
    const double d = std::abs(a.data<double>()[i] - b.data<double>()[i]);
    if (!(d <= largest)) largest = std::isfinite(d) ? d : INFINITY;
    size = std::max(size, std::abs(a.data<double>()[i]));
  }
  return largest / size;
}

// Where the texts of one forward are cut, and what may not move for it.
struct CutTexts {
  std::vector<int64_t> cuts, early;  // tokens from here on are changed; early: a delay before
  std::vector<ComparedRows> rows;

  // `cut_groups`: the group of each text that is cut at its limit, or -1.
  CutTexts(const Tensor& limits, const std::vector<int64_t>& cut_groups, int64_t time,
           int64_t ahead, int64_t delay)
      : cuts(cut_groups.size(), time), early(cuts) {
    const int64_t groups = limits.size(1);
    for (int64_t b = 0; b < int64_t(cut_groups.size()); ++b) {
      const int64_t cut_group = cut_groups[size_t(b)];
      if (cut_group >= 0) {
        cuts[size_t(b)] = limit_of(limits, b, cut_group);
        early[size_t(b)] = cuts[size_t(b)] - delay;
      }
      for (int64_t g = 0; g < groups; ++g)
        if (limit_of(limits, b, g) <= cuts[size_t(b)])
          rows.push_back({b, g * ahead, (g + 1) * ahead, b, g * ahead,
                          cut_group < 0 ? std::string("other texts changed")
                                        : fmt::format("group {}, text changed from token {} on", g,
                                                      cuts[size_t(b)])});
    }
  }
};

}  // namespace

Verdict ask_latents(AugmentedModel& model, const Tensor& tokens, const Tensor& donors,
                    const LatentSizes& sizes, const Asking& asking) {
  const ProbingMode mode(model, asking.train, asking.precision);
  const int64_t texts = tokens.size(0), time = tokens.size(1), groups = sizes.groups,
                delay = model.options().delay;
  const Rounding rounding = rounding_of(model, time);
  const std::string how = sizes_in_words(model, tokens, sizes, asking, rounding);
  const Tensor limits = drawn_limits(model, texts, time, sizes, asking.turn);
  const InsertionPoints points = insertion_points(tokens, tokens, limits, sizes.ahead);
  const auto restart = [&] { default_generator() = Generator(uint64_t(asking.turn) + 1); };
  const auto hidden_of = [&](const Tensor& t) {
    restart();
    return model.ahead_hidden(t, points).tensor();
  };
  const auto latents_of = [&](const Tensor& t) {
    restart();
    return model.latents_for(t, limits).tensor();
  };
  const Tensor base = hidden_of(tokens), base_latents = delay > 0 ? latents_of(tokens) : Tensor();
  const std::string site = asking.train ? "train mode" : "eval mode";
  require_finite(base, site);

  HiddenMovement found(model);
  double moved_latents = 0;
  for (const auto& cut_groups : plan_groups(texts, groups, asking.most_forwards, asking.turn)) {
    const CutTexts cut(limits, cut_groups, time, sizes.ahead, delay);
    const int64_t vocabulary = model.vocabulary_size();
    found.compare(base, hidden_of(with_other_suffixes(tokens, donors, cut.cuts, vocabulary)),
                  cut.rows, site);
    if (delay > 0)
      moved_latents = std::max(
          moved_latents,
          latents_moved(
              base_latents, latents_of(with_other_suffixes(tokens, donors, cut.early, vocabulary)),
              groups,
              [&](int64_t b, int64_t g) { return limit_of(limits, b, g) <= cut.cuts[size_t(b)]; }));
  }
  Verdict verdict;
  verdict.add(found.movement("latents: other text behind a group's limit, " + how,
                             rounding.same_shape, asking.step));
  if (delay > 0)
    verdict.add({"latents: other text behind a delayed limit, " + how, "the latents themselves",
                 moved_latents, rounding.same_shape, asking.step});
  if (!asking.again) return verdict;
  HiddenMovement again(model);
  std::vector<ComparedRows> all;
  for (int64_t b = 0; b < texts; ++b) all.push_back({b, 0, base.size(1), b, 0, ""});
  again.compare(base, hidden_of(tokens), all, site);
  verdict.add(
      again.movement("latents: the same text again, " + how, rounding.same_shape, asking.step));
  return verdict;
}

Verdict ask_separate_groups(AugmentedModel& model, const Tensor& tokens, const LatentSizes& sizes,
                            int64_t most, const Asking& asking) {
  const ProbingMode mode(model, false, MatmulPrecision::full);
  Asking eval = asking;
  eval.train = false;
  eval.precision = MatmulPrecision::full;
  const Rounding rounding = rounding_of(model, tokens.size(1));
  const std::string how = sizes_in_words(model, tokens, sizes, eval, rounding);
  const int64_t texts = tokens.size(0), all = texts * sizes.groups,
                count = most > 0 ? std::min(most, all) : all;
  const Tensor limits = drawn_limits(model, texts, tokens.size(1), sizes, asking.turn);
  const InsertionPoints points = insertion_points(tokens, tokens, limits, sizes.ahead);
  const Tensor packed = model.ahead_hidden(tokens, points).tensor();
  HiddenMovement found(model);
  for (int64_t i = 0; i < count; ++i) {
    // Group after group, each in another text.
    const int64_t n = (asking.turn * count + i) % all, group = n % sizes.groups,
                  text = (n / sizes.groups + group) % texts;
    const Tensor alone = separate_group(model, tokens, points, text, group).hidden.tensor();
    found.compare(packed, alone,
                  {{text, group * sizes.ahead, (group + 1) * sizes.ahead, 0, 0,
                    fmt::format("group {} at token {}", group, limit_of(limits, text, group))}},
                  "eval mode");
  }
  Verdict verdict;
  verdict.add(found.movement("latents: separate forwards over the true prefix, " + how,
                             rounding.other_shape, asking.step));
  return verdict;
}

}  // namespace reverie
