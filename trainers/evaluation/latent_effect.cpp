#include "trainers/evaluation/latent_effect.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "core/error.h"
#include "core/random.h"
#include "trainers/evaluation/evaluate.h"
#include "trainers/evaluation/insertion_losses.h"
#include "trainers/probes/forward_audit.h"

namespace reverie {
namespace {

using Text = PositionLosses::Text;
using Runs = std::span<const PositionLosses* const>;

constexpr double kNoTarget = std::numeric_limits<double>::quiet_NaN();

// Losses by position of a sample of insertions.
struct Sums {
  std::vector<double> base, model, count;
  explicit Sums(size_t positions) : base(positions), model(positions), count(positions) {}

  void add(const Text& text, size_t insertion, double times) {
    const size_t positions = count.size(), first = insertion * positions;
    for (size_t p = 0; p < positions; ++p) {
      const double b = text.base[first + p], m = text.model[first + p];
      const bool scored = !std::isnan(b);
      base[p] += scored ? times * b : 0;
      model[p] += scored ? times * m : 0;
      count[p] += scored ? times : 0;
    }
  }
  struct Means {
    double base = 0, model = 0;
    double change() const { return 100 * (std::exp(model - base) - 1); }
  };
  Means at(size_t p) const { return {base[p] / count[p], model[p] / count[p]}; }
  Means of_all() const {
    Means m;
    double all = 0;
    for (size_t p = 0; p < count.size(); ++p) {
      m.base += base[p];
      m.model += model[p];
      all += count[p];
    }
    return {m.base / all, m.model / all};
  }
};

Sums sums_of_all(const PositionLosses& run) {
  Sums sums(size_t(run.positions));
  for (const Text& text : run.texts)
    for (size_t i = 0; i < text.offsets.size(); ++i) sums.add(text, i, 1);
  return sums;
}

// How often a resample holds each insertion, text after text: texts are drawn with replacement, and
// of each text drawn as many of its insertions as it has.
std::vector<uint32_t> draw_insertions(const std::vector<Text>& texts,
                                      const std::vector<size_t>& first, Generator& random) {
  std::vector<uint32_t> times(first.back());
  for (size_t draw = 0; draw < texts.size(); ++draw) {
    const size_t text = size_t(random.below(texts.size())), size = texts[text].offsets.size();
    for (size_t i = 0; i < size; ++i) ++times[first[text] + size_t(random.below(size))];
  }
  return times;
}

// Position 1 after a lone first token, a short, a longer and a long text.
std::vector<LatentEffect::Offsets> first_position_by_offset(Runs runs) {
  std::vector<LatentEffect::Offsets> out;
  const int64_t bounds[] = {1, 2, 16, 64, std::numeric_limits<int32_t>::max()};
  for (size_t k = 0; k + 1 < std::size(bounds); ++k) {
    LatentEffect::Offsets range{bounds[k], bounds[k + 1] - 1, 0, 0};
    int64_t longest = 0;
    for (const PositionLosses* run : runs) {
      Sums sums(size_t(run->positions));
      range.insertions = 0;
      for (const Text& text : run->texts)
        for (size_t i = 0; i < text.offsets.size(); ++i) {
          if (text.offsets[i] < range.first || text.offsets[i] > range.last) continue;
          sums.add(text, i, 1);
          longest = std::max<int64_t>(longest, text.offsets[i]);
          ++range.insertions;
        }
      if (range.insertions > 0) range.change_percent += sums.at(0).change() / double(runs.size());
    }
    if (range.insertions == 0) continue;
    range.last = std::min(range.last, longest);
    out.push_back(range);
  }
  return out;
}

void set_interval(std::vector<double>& changes, LatentEffect::Position& p) {
  p.low = p.high = p.change_percent;
  if (changes.empty()) return;
  std::sort(changes.begin(), changes.end());
  p.low = changes[size_t(0.025 * double(changes.size()))];
  p.high = changes[std::min(changes.size() - 1, size_t(0.975 * double(changes.size())))];
}

// Over all positions (index 0) and by position, with intervals.
LatentEffect effect_of(Runs runs, const LatentEffectOptions& options) {
  const PositionLosses& one = *runs[0];
  const size_t positions = size_t(one.positions);
  const double share = 1 / double(runs.size());
  std::vector<LatentEffect::Position> out(positions + 1);
  const auto add = [&](LatentEffect::Position& p, const Sums::Means& m) {
    p.base_nll += m.base * share;
    p.nll += m.model * share;
    p.change_percent += m.change() * share;
    p.change_of_run.push_back(m.change());
  };
  for (const PositionLosses* run : runs) {
    const Sums sums = sums_of_all(*run);
    add(out[0], sums.of_all());
    for (size_t p = 0; p < positions; ++p) add(out[p + 1], sums.at(p));
  }
  std::vector<size_t> first{0};
  for (const Text& text : one.texts) first.push_back(first.back() + text.offsets.size());
  // The same draws for every position and model, so that intervals are comparable.
  Generator random(options.seed);
  std::vector<std::vector<double>> changes(positions + 1);
  for (int64_t r = 0; r < options.resamples; ++r) {
    const auto times = draw_insertions(one.texts, first, random);
    std::vector<double> change(positions + 1);
    for (const PositionLosses* run : runs) {
      Sums sums(positions);
      for (size_t t = 0; t < run->texts.size(); ++t)
        for (size_t i = first[t]; i < first[t + 1]; ++i)
          if (times[i] > 0) sums.add(run->texts[t], i - first[t], times[i]);
      change[0] += sums.of_all().change() * share;
      for (size_t p = 0; p < positions; ++p) change[p + 1] += sums.at(p).change() * share;
    }
    for (size_t p = 0; p <= positions; ++p) changes[p].push_back(change[p]);
  }
  for (size_t p = 0; p <= positions; ++p) {
    out[p].position = int64_t(p);
    set_interval(changes[p], out[p]);
  }
  LatentEffect effect;
  effect.all = out[0];
  effect.by_position.assign(out.begin() + 1, out.end());
  effect.texts = int64_t(one.texts.size());
  effect.insertions = one.insertions();
  effect.rule = one.rule;
  effect.first_by_offset = first_position_by_offset(runs);
  return effect;
}

// The same base scores the same tokens alike, whatever machine it ran on.
bool on_same_texts(const PositionLosses& a, const PositionLosses& b) {
  constexpr double kTolerance = 1e-3;  // nats, and relative where a loss is above one
  const auto near = [](double x, double y) {
    return std::isnan(x) ? std::isnan(y)
                         : std::abs(x - y) <= kTolerance * std::max(1.0, std::abs(x));
  };
  return a.positions == b.positions &&
         std::equal(a.texts.begin(), a.texts.end(), b.texts.begin(), b.texts.end(),
                    [&](const Text& x, const Text& y) {
                      return x.offsets == y.offsets &&
                             std::equal(x.base.begin(), x.base.end(), y.base.begin(), y.base.end(),
                                        near);
                    });
}

void require_same_texts(Runs runs, const PositionLosses& one) {
  for (const PositionLosses* run : runs)
    require(on_same_texts(*run, one),
            "the runs were not measured on the same texts and insertions: measure them again "
            "with one table definition");
}

// Adds each insertion's loss, a mean over the runs, to the losses that `field` of a text names.
void add_mean_loss(Runs runs, std::vector<double> Text::*field, std::vector<Text>& texts) {
  for (const PositionLosses* run : runs)
    for (size_t t = 0; t < texts.size(); ++t)
      for (size_t i = 0; i < (texts[t].*field).size(); ++i)
        (texts[t].*field)[i] += run->texts[t].model[i] / double(runs.size());
}

Json numbers_json(const std::vector<double>& values) {
  Json out = Json::array();
  for (const double v : values)
    out.push_back(std::isnan(v) ? Json() : Json(std::round(v * 1e6) / 1e6));
  return out;
}
std::vector<double> numbers_from(const Json& json, const char* key, size_t count) {
  std::vector<double> values;
  for (const Json& v : json.at(key)) values.push_back(v.is_null() ? kNoTarget : v.get<double>());
  if (values.size() != count)
    throw DataError(fmt::format("these are no losses by position: \"{}\" has {} numbers, wanted {}",
                                key, values.size(), count));
  return values;
}

}  // namespace

int64_t PositionLosses::insertions() const {
  int64_t all = 0;
  for (const Text& t : texts) all += int64_t(t.offsets.size());
  return all;
}

Json PositionLosses::json() const {
  Json out = {{"rule", rule},
              {"positions", positions},
              {"insertions", insertions()},
              {"texts", Json::array()}};
  for (const Text& t : texts)
    out["texts"].push_back(
        {{"offsets", t.offsets}, {"base", numbers_json(t.base)}, {"model", numbers_json(t.model)}});
  return out;
}

PositionLosses PositionLosses::from_json(const Json& json) {
  PositionLosses losses;
  try {
    losses.rule = json.at("rule");
    losses.positions = json.at("positions");
    for (const Json& text : json.at("texts")) {
      Text t;
      t.offsets = text.at("offsets").get<std::vector<int32_t>>();
      const size_t count = t.offsets.size() * size_t(losses.positions);
      t.base = numbers_from(text, "base", count);
      t.model = numbers_from(text, "model", count);
      losses.texts.push_back(std::move(t));
    }
  } catch (const Json::exception& e) {
    throw DataError(fmt::format("these are no losses by position: {}", e.what()));
  }
  return losses;
}

PositionLosses measure_position_losses(LanguageModel& model, LanguageModel& base,
                                       const EvaluationWindows& windows,
                                       const LatentEffectOptions& options, ForwardAudit* audit) {
  const EvaluationMode mode(model), base_mode(base);
  PositionLosses out;
  out.positions = options.rule.positions;
  out.rule = options.rule.text();
  for (int64_t i = 0; i < windows.batch_count(); ++i) {
    const Batch batch = windows.batch(i);
    const bool audited = audit && audit->audits(i, windows.batch_count());
    const InsertionLosses l =
        insertion_losses(model, base, batch.tokens, batch.targets, options.rule, options.shuffled,
                         audited ? audit : nullptr);
    const int64_t texts = l.limits.size(0), groups = l.limits.size(1);
    const int32_t* limit = l.limits.data<int32_t>();
    for (int64_t b = 0; b < texts; ++b) {
      Text t;
      t.offsets.assign(limit + b * groups, limit + (b + 1) * groups);
      for (int64_t at = b * groups * out.positions; at < (b + 1) * groups * out.positions; ++at) {
        const size_t n = size_t(at);
        if (l.scored[n] && !(std::isfinite(l.model[n]) && std::isfinite(l.base[n])))
          throw DivergedError(fmt::format(
              "text {}: the loss at position {} after {} tokens is {}, the base's {}: they are not "
              "both finite",
              out.texts.size(), at % out.positions + 1, limit[at / out.positions], l.model[n],
              l.base[n]));
        t.base.push_back(l.scored[n] ? l.base[n] : kNoTarget);
        t.model.push_back(l.scored[n] ? l.model[n] : kNoTarget);
      }
      out.texts.push_back(std::move(t));
    }
  }
  return out;
}

LatentEffect latent_effect(Runs runs, const LatentEffectOptions& options) {
  require(!runs.empty() && !runs[0]->texts.empty(), "there is no text to measure on");
  require_same_texts(runs, *runs[0]);
  return effect_of(runs, options);
}

LatentEffect paired_effect(Runs model, Runs against, const LatentEffectOptions& options) {
  require(!model.empty() && !against.empty() && !model[0]->texts.empty(),
          "there is no text to compare on");
  require_same_texts(model, *model[0]);
  require_same_texts(against, *model[0]);
  PositionLosses pair = *model[0];
  for (Text& text : pair.texts)
    for (std::vector<double>* losses : {&text.base, &text.model})
      for (double& loss : *losses) loss = std::isnan(loss) ? kNoTarget : 0;
  add_mean_loss(against, &Text::base, pair.texts);
  add_mean_loss(model, &Text::model, pair.texts);
  const PositionLosses* only = &pair;
  return effect_of({&only, 1}, options);
}

LatentEffect measure_latent_effect(AugmentedModel& model, const EvaluationWindows& windows,
                                   const LatentEffectOptions& options) {
  const PositionLosses losses = measure_position_losses(model, model, windows, options);
  const PositionLosses* run = &losses;
  return latent_effect({&run, 1}, options);
}

}  // namespace reverie
