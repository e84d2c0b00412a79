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

// Sums over one text's insertion points, by position.
struct TextSums {
  std::vector<double> base, augmented, count;
};

struct Means {
  double base = 0, augmented = 0;
  double change() const { return 100 * (std::exp(augmented - base) - 1); }
};

// Position n of the texts drawn, or all positions (n < 0).
Means means(const std::vector<TextSums>& texts, const std::vector<size_t>& drawn, int64_t n) {
  Means m;
  double count = 0;
  for (const size_t i : drawn) {
    const TextSums& t = texts[i];
    const size_t first = n < 0 ? 0 : size_t(n), last = n < 0 ? t.count.size() : size_t(n) + 1;
    for (size_t p = first; p < last; ++p) {
      m.base += t.base[p];
      m.augmented += t.augmented[p];
      count += t.count[p];
    }
  }
  m.base /= count;
  m.augmented /= count;
  return m;
}

LatentEffect::Position summary(const std::vector<TextSums>& texts, int64_t n,
                               const LatentEffectOptions& options) {
  std::vector<size_t> every(texts.size());
  for (size_t i = 0; i < every.size(); ++i) every[i] = i;
  const Means m = means(texts, every, n);
  LatentEffect::Position p{n + 1, m.base, m.augmented, m.change(), m.change(), m.change()};
  // The same draws for every position and model, so that intervals are comparable.
  Generator random(options.seed);
  std::vector<double> changes;
  for (int64_t r = 0; r < options.resamples; ++r) {
    std::vector<size_t> drawn(texts.size());
    for (size_t& i : drawn) i = size_t(random.below(texts.size()));
    changes.push_back(means(texts, drawn, n).change());
  }
  if (changes.empty()) return p;
  std::sort(changes.begin(), changes.end());
  p.low = changes[size_t(0.025 * double(changes.size()))];
  p.high = changes[std::min(changes.size() - 1, size_t(0.975 * double(changes.size())))];
  return p;
}

}  // namespace

LatentEffect measure_latent_effect(AugmentedModel& model, const EvaluationWindows& windows,
                                   const LatentEffectOptions& options) {
  const EvaluationMode mode(model);
  const int64_t positions = options.positions, groups = options.groups;
  std::vector<TextSums> texts;
  LatentEffect effect;
  for (int64_t i = 0; i < windows.batch_count(); ++i) {
    const Batch batch = windows.batch(i);
    const int64_t size = batch.tokens.size(0), time = batch.tokens.size(1),
                  first = 1 + model.options().delay, last = time + 1 - positions;
    require(last >= first, "a text of {} tokens is too short to score {} after latents", time,
            positions);
    Tensor limits = Tensor::empty({size, groups}, DType::i32);
    for (int64_t k = 0; k < size * groups; ++k)
      limits.mutable_data<int32_t>()[k] =
          int32_t(first + (last - first) * (k % groups) / std::max<int64_t>(1, groups - 1));
    const InsertionPoints points = insertion_points(batch.tokens, batch.targets, limits, positions);

    Variable latents;
    if (options.shuffled) {
      require(size > 1, "latents can be shuffled only between texts of one batch, got one text");
      const Variable own = model.latents_for(batch.tokens, limits);
      latents = concat({slice(own, 0, 1, size), slice(own, 0, 0, 1)}, 0);
    }
    const auto augmented =
        row_losses(model, model.ahead_hidden(batch.tokens, points, latents), points.targets);
    const auto base = row_losses(model, model.hidden(batch.tokens, nullptr), batch.targets);
    const int32_t* limit = limits.data<int32_t>();
    const int32_t* target = points.targets.data<int32_t>();
    for (int64_t b = 0; b < size; ++b) {
      TextSums sums{std::vector<double>(size_t(positions)), std::vector<double>(size_t(positions)),
                    std::vector<double>(size_t(positions))};
      for (int64_t g = 0; g < groups; ++g)
        for (int64_t p = 0; p < positions; ++p) {
          const int64_t row = (b * groups + g) * positions + p;
          if (target[row] < 0) continue;
          sums.augmented[size_t(p)] += augmented[size_t(row)];
          sums.base[size_t(p)] += base[size_t(b * time + limit[b * groups + g] - 1 + p)];
          sums.count[size_t(p)] += 1;
        }
      texts.push_back(std::move(sums));
    }
    effect.insertions += size * groups;
  }
  require(!texts.empty(), "there is no text to measure on");
  effect.texts = int64_t(texts.size());
  for (int64_t p = 0; p < positions; ++p) effect.by_position.push_back(summary(texts, p, options));
  effect.all = summary(texts, -1, options);
  return effect;
}

}  // namespace reverie
