#include "trainers/evaluation/latent_effect.h"

#include <algorithm>
#include <cmath>

#include "autograd/ops/loss.h"
#include "autograd/ops/shape.h"
#include "core/error.h"
#include "core/random.h"
#include "trainers/evaluation/evaluate.h"

namespace reverie {
namespace {

// Cross entropy of every row of hidden [B, R, C] for targets i32 [B, R], in rows that fit: a large
// vocabulary makes logits long.
std::vector<double> row_losses(const LanguageModel& model, const Variable& hidden,
                               const Tensor& targets) {
  const int64_t rows = targets.numel(), features = hidden.size(2),
                chunk = std::max<int64_t>(1, (int64_t(1) << 24) / model.vocabulary_size());
  const Variable flat = reshape(hidden, {1, rows, features});
  const Tensor wanted = targets.view({1, rows});
  std::vector<double> losses;
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const int64_t end = std::min(rows, begin + chunk);
    const Tensor part = wanted.slice(1, begin, end).contiguous();
    const auto values =
        cross_entropy(model.logits_of(slice(flat, 1, begin, end)), part).tensor().to_vector();
    losses.insert(losses.end(), values.begin(), values.end());
  }
  return losses;
}

using Text = PositionLosses::Text;

// Mean losses of one run over the texts drawn, at position n or at all positions (n < 0).
struct Means {
  double base = 0, model = 0;
  double change() const { return 100 * (std::exp(model - base) - 1); }
};
Means means(const std::vector<Text>& texts, const std::vector<size_t>& drawn, int64_t n) {
  Means m;
  double count = 0;
  for (const size_t i : drawn) {
    const Text& t = texts[i];
    const size_t first = n < 0 ? 0 : size_t(n), last = n < 0 ? t.count.size() : size_t(n) + 1;
    for (size_t p = first; p < last; ++p) {
      m.base += t.base[p];
      m.model += t.model[p];
      count += t.count[p];
    }
  }
  m.base /= count;
  m.model /= count;
  return m;
}

using Runs = std::span<const PositionLosses* const>;

LatentEffect::Position summary(Runs runs, int64_t n, const LatentEffectOptions& options) {
  std::vector<size_t> drawn(runs[0]->texts.size());
  for (size_t i = 0; i < drawn.size(); ++i) drawn[i] = i;
  LatentEffect::Position p;
  p.position = n + 1;
  for (const PositionLosses* run : runs) {
    const Means m = means(run->texts, drawn, n);
    p.base_nll += m.base / double(runs.size());
    p.nll += m.model / double(runs.size());
    p.change_percent += m.change() / double(runs.size());
    p.change_of_run.push_back(m.change());
  }
  p.low = p.high = p.change_percent;
  // The same draws for every position and model, so that intervals are comparable.
  Generator random(options.seed);
  std::vector<double> changes;
  for (int64_t r = 0; r < options.resamples; ++r) {
    for (size_t& i : drawn) i = size_t(random.below(drawn.size()));
    double change = 0;
    for (const PositionLosses* run : runs) change += means(run->texts, drawn, n).change();
    changes.push_back(change / double(runs.size()));
  }
  if (changes.empty()) return p;
  std::sort(changes.begin(), changes.end());
  p.low = changes[size_t(0.025 * double(changes.size()))];
  p.high = changes[std::min(changes.size() - 1, size_t(0.975 * double(changes.size())))];
  return p;
}

// The same base scores the same tokens alike, whatever machine it ran on.
bool on_same_texts(const PositionLosses& a, const PositionLosses& b) {
  constexpr double kTolerance = 1e-3;  // relative
  const auto same = [](const Text& x, const Text& y) {
    if (x.count != y.count) return false;
    for (size_t p = 0; p < x.base.size(); ++p)
      if (std::abs(x.base[p] - y.base[p]) > kTolerance * std::abs(x.base[p])) return false;
    return true;
  };
  return std::equal(a.texts.begin(), a.texts.end(), b.texts.begin(), b.texts.end(), same);
}

// Insertion points of every text of a batch, evenly spaced: i32 [batch, groups].
Tensor spaced_limits(int64_t batch, int64_t groups, int64_t first, int64_t last) {
  Tensor limits = Tensor::empty({batch, groups}, DType::i32);
  for (int64_t k = 0; k < batch * groups; ++k)
    limits.mutable_data<int32_t>()[k] =
        int32_t(first + (last - first) * (k % groups) / std::max<int64_t>(1, groups - 1));
  return limits;
}

// Latents of the next text at every point of a text's own, [B, G * N_L, C].
Variable shuffled_latents(AugmentedModel& model, const Tensor& tokens, const Tensor& limits) {
  const int64_t size = tokens.size(0);
  require(size > 1, "latents can be shuffled only between texts of one batch, got one text");
  const Variable own = model.latents_for(tokens, limits);
  return concat({slice(own, 0, 1, size), slice(own, 0, 0, 1)}, 0);
}

// Adds each text's loss, a mean over the runs, to the sums that `field` of a text names.
void add_mean_loss(Runs runs, std::vector<double> Text::*field, std::vector<Text>& texts) {
  for (const PositionLosses* run : runs)
    for (size_t i = 0; i < texts.size(); ++i)
      for (size_t p = 0; p < texts[i].count.size(); ++p)
        (texts[i].*field)[p] += run->texts[i].model[p] / double(runs.size());
}

std::vector<double> numbers(const Json& json, const char* key, size_t count) {
  auto values = json.at(key).get<std::vector<double>>();
  if (values.size() != count) throw DataError(fmt::format("{} numbers of {}", count, key));
  return values;
}

}  // namespace

Json PositionLosses::json() const {
  Json out = {{"insertions", insertions}, {"texts", Json::array()}};
  for (const Text& t : texts)
    out["texts"].push_back({{"base", t.base}, {"model", t.model}, {"count", t.count}});
  return out;
}

PositionLosses PositionLosses::from_json(const Json& json) {
  PositionLosses losses;
  try {
    losses.insertions = json.at("insertions");
    for (const Json& text : json.at("texts")) {
      const size_t count =
          losses.texts.empty() ? text.at("count").size() : losses.texts[0].count.size();
      losses.texts.push_back({numbers(text, "base", count), numbers(text, "model", count),
                              numbers(text, "count", count)});
    }
  } catch (const Json::exception& e) {
    throw DataError(fmt::format("these are no losses by position: {}", e.what()));
  }
  return losses;
}

PositionLosses measure_position_losses(LanguageModel& model, LanguageModel& base,
                                       const EvaluationWindows& windows,
                                       const LatentEffectOptions& options) {
  const EvaluationMode mode(model), base_mode(base);
  auto* augmented = dynamic_cast<AugmentedModel*>(&model);
  require(augmented || !options.shuffled, "a model without latents has none to shuffle");
  const int64_t positions = options.positions, groups = options.groups;
  PositionLosses losses;
  for (int64_t i = 0; i < windows.batch_count(); ++i) {
    const Batch batch = windows.batch(i);
    // The same points for all models: latents that arrive late come from one token at the least.
    const int64_t size = batch.tokens.size(0), time = batch.tokens.size(1), first = 1,
                  last = time + 1 - positions;
    require(last >= first, "a text of {} tokens is too short to score {} after latents", time,
            positions);
    const Tensor limits = spaced_limits(size, groups, first, last);
    const InsertionPoints points = insertion_points(batch.tokens, batch.targets, limits, positions);
    const int32_t* limit = limits.data<int32_t>();
    const int32_t* target = points.targets.data<int32_t>();

    // Without latents a row is the text's own; with them, the group's.
    const auto own_rows = [&](LanguageModel& m) {
      return row_losses(m, m.hidden(batch.tokens, nullptr), batch.targets);
    };
    const auto own_row = [&](int64_t b, int64_t g, int64_t p) {
      return size_t(b * time + limit[b * groups + g] - 1 + p);
    };
    const auto group_row = [&](int64_t b, int64_t g, int64_t p) {
      return size_t((b * groups + g) * positions + p);
    };
    const std::vector<double> of_base = own_rows(base);
    std::vector<double> of_model;
    if (augmented) {
      const Variable latents =
          options.shuffled ? shuffled_latents(*augmented, batch.tokens, limits) : Variable();
      of_model =
          row_losses(model, augmented->ahead_hidden(batch.tokens, points, latents), points.targets);
    } else {
      of_model = own_rows(model);
    }
    for (int64_t b = 0; b < size; ++b) {
      const std::vector<double> zeros(static_cast<size_t>(positions));
      Text sums{zeros, zeros, zeros};
      for (int64_t g = 0; g < groups; ++g)
        for (int64_t p = 0; p < positions; ++p) {
          if (target[group_row(b, g, p)] < 0) continue;
          sums.model[size_t(p)] += of_model[augmented ? group_row(b, g, p) : own_row(b, g, p)];
          sums.base[size_t(p)] += of_base[own_row(b, g, p)];
          sums.count[size_t(p)] += 1;
        }
      losses.texts.push_back(std::move(sums));
    }
    losses.insertions += size * groups;
  }
  return losses;
}

LatentEffect latent_effect(std::span<const PositionLosses* const> runs,
                           const LatentEffectOptions& options) {
  require(!runs.empty() && !runs[0]->texts.empty(), "there is no text to measure on");
  for (const PositionLosses* run : runs)
    require(on_same_texts(*run, *runs[0]), "these runs were not measured on the same texts");
  LatentEffect effect;
  effect.texts = int64_t(runs[0]->texts.size());
  effect.insertions = runs[0]->insertions;
  for (int64_t p = 0; p < runs[0]->positions(); ++p)
    effect.by_position.push_back(summary(runs, p, options));
  effect.all = summary(runs, -1, options);
  return effect;
}

LatentEffect::Position paired_effect(Runs model, Runs against, const LatentEffectOptions& options) {
  require(!model.empty() && !against.empty() && !model[0]->texts.empty(),
          "there is no text to compare on");
  for (const Runs& runs : {model, against})
    for (const PositionLosses* run : runs)
      require(on_same_texts(*run, *model[0]), "these runs were not measured on the same texts");
  PositionLosses pair = *model[0];
  for (Text& text : pair.texts) {
    std::fill(text.base.begin(), text.base.end(), 0.0);
    std::fill(text.model.begin(), text.model.end(), 0.0);
  }
  add_mean_loss(against, &Text::base, pair.texts);
  add_mean_loss(model, &Text::model, pair.texts);
  const PositionLosses* only = &pair;
  return summary({&only, 1}, -1, options);
}

LatentEffect measure_latent_effect(AugmentedModel& model, const EvaluationWindows& windows,
                                   const LatentEffectOptions& options) {
  const PositionLosses losses = measure_position_losses(model, model, windows, options);
  const PositionLosses* run = &losses;
  return latent_effect({&run, 1}, options);
}

}  // namespace reverie
