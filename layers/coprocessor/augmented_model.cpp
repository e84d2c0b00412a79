#include "layers/coprocessor/augmented_model.h"

#include <algorithm>
#include <optional>
#include <vector>

#include "autograd/ops/elementwise.h"
#include "autograd/ops/shape.h"
#include "core/error.h"
#include "layers/pretrained/load.h"
#include "layers/row_context.h"

namespace reverie {
namespace {

const bool augmented_model_registered =
    ModelRegistry::instance().add<AugmentedModel, AugmentedOptions>(
        "augmented", "a frozen model with latents written into its context by a coprocessor");

// [B, G * S, C] -> [B, G, S, C].
Variable by_group(const Variable& rows, int64_t groups) {
  const Shape& s = rows.shape();
  return reshape(rows, {s[0], groups, s[1] / groups, s[2]});
}
Variable flat(const Variable& rows) {
  const Shape& s = rows.shape();
  return reshape(rows, {s[0], s[1] * s[2], s[3]});
}

// limits + by, on the host. UserError when one gets below `least`.
Tensor shifted(const Tensor& limits, int64_t by, int64_t least) {
  Tensor moved = limits.to(Device{}).clone();
  int32_t* limit = moved.mutable_data<int32_t>();
  for (int64_t i = 0; i < moved.numel(); ++i) {
    require(limit[i] + by >= least,
            "latents that arrive {} tokens late cannot be inserted after {} tokens; wanted {} or "
            "more",
            -by, limit[i], least - by);
    limit[i] += int32_t(by);
  }
  return moved;
}
// The tokens i32 [B, T] at `places` i32 [B, G].
Tensor tokens_at(const Tensor& tokens, const Tensor& places) {
  const Tensor all = tokens.to(Device{}).contiguous();
  const int64_t time = tokens.size(1), groups = places.size(1);
  Tensor found = Tensor::empty(places.shape(), DType::i32);
  for (int64_t i = 0; i < places.numel(); ++i)
    found.mutable_data<int32_t>()[i] =
        all.data<int32_t>()[i / groups * time + places.data<int32_t>()[i]];
  return found;
}

}  // namespace

void AugmentedOptions::fields(Fields& f) {
  f.path("base", base,
         "the model that reads the latents: a Hugging Face directory, a .gguf file or a llama2.c "
         ".bin file");
  f.component("latents", latents, LatentRegistry::instance(), false, "the source of the latents");
  f.integer("block_size", block_size, {1, int64_t(1) << 24}, "longest text, in tokens");
  f.integer("groups", groups, {1, 1 << 20}, "insertion points drawn for each text and step");
  f.integer("ahead", ahead, {1, 1 << 20}, "tokens predicted after the latents (N_A)");
  f.text(
      "insert", insert, {"drawn", "targets"},
      "drawn: latents stand anywhere in a text; targets: once, in front of its first target, for "
      "data of examples (data.examples, data.problems), with groups 1");
  f.rule(insert == "drawn" || groups == 1,
         fmt::format("latents in front of the targets are one group in each text, got {} groups: "
                     "set groups to 1",
                     groups));
  f.integer("delay", delay, {0, 1 << 20},
            "number of tokens between the text that the latents are made from and the place "
            "where they arrive");
  f.boolean("train_base", train_base, "train the base as well; otherwise it is frozen");
  f.boolean("rematerialize", rematerialize,
            "recompute blocks of the base and of the latents' source in the backward pass instead "
            "of keeping their activations");
  f.rule(
      delay + ahead <= block_size,
      fmt::format("a delay of {} and {} tokens ahead do not fit a text of {} tokens (block_size)",
                  delay, ahead, block_size));
}

InsertionPoints insertion_points(const Tensor& tokens, const Tensor& targets, const Tensor& limits,
                                 int64_t ahead) {
  const int64_t batch = tokens.size(0), time = tokens.size(1), groups = limits.size(1);
  const Tensor from = tokens.to(Device{}).contiguous(), to = targets.to(Device{}).contiguous(),
               at = limits.to(Device{}).contiguous();
  InsertionPoints points{limits, Tensor::empty({batch, groups * (ahead - 1)}, DType::i32),
                         Tensor::empty({batch, groups * ahead}, DType::i32)};
  int32_t* read = ahead > 1 ? points.ahead.mutable_data<int32_t>() : nullptr;
  int32_t* wanted = points.targets.mutable_data<int32_t>();
  for (int64_t b = 0; b < batch; ++b)
    for (int64_t g = 0; g < groups; ++g) {
      const int64_t limit = at.data<int32_t>()[b * groups + g];
      require(limit >= 1 && limit + ahead <= time + 1,
              "an insertion after {} tokens needs {} tokens ahead, but the text has {}", limit,
              ahead, time);
      // Row limit - 1 is the last that the group sees; its target is the first to predict.
      const int64_t row = b * time + limit;
      for (int64_t i = 0; i + 1 < ahead; ++i) *read++ = from.data<int32_t>()[row + i];
      for (int64_t i = 0; i < ahead; ++i) *wanted++ = to.data<int32_t>()[row - 1 + i];
    }
  return points;
}

InsertionPoints points_at_targets(const Tensor& tokens, const Tensor& targets, int64_t most_ahead) {
  const Tensor from = tokens.to(Device{}).contiguous(), to = targets.to(Device{}).contiguous();
  const int64_t batch = to.size(0), time = to.size(1);
  InsertionPoints points{Tensor::empty({batch, 1}, DType::i32), {}, {}};
  int64_t ahead = 1;
  for (int64_t b = 0; b < batch; ++b) {
    const int32_t* row = to.data<int32_t>() + b * time;
    int64_t first = 0, last = time - 1;
    while (first < time && row[first] < 0) ++first;
    require(first < time, "a text of {} tokens has no target to put latents in front of", time);
    while (row[last] < 0) --last;
    ahead = std::max(ahead, last - first + 1);
    points.limits.mutable_data<int32_t>()[b] = int32_t(first + 1);
  }
  require(ahead <= most_ahead,
          "the targets of a text reach over {} tokens, but latents are followed by {} at most: "
          "raise $.model.ahead to {}",
          ahead, most_ahead, ahead);
  points.ahead = Tensor::empty({batch, ahead - 1}, DType::i32);
  points.targets = Tensor::empty({batch, ahead}, DType::i32);
  int32_t* read = ahead > 1 ? points.ahead.mutable_data<int32_t>() : nullptr;
  int32_t* wanted = points.targets.mutable_data<int32_t>();
  for (int64_t b = 0; b < batch; ++b) {
    const int64_t limit = points.limits.data<int32_t>()[b];
    // Behind the text's end stand its last token, and no target.
    for (int64_t i = limit; i + 1 < limit + ahead; ++i)
      *read++ = from.data<int32_t>()[b * time + std::min(i, time - 1)];
    for (int64_t i = limit - 1; i + 1 < limit + ahead; ++i)
      *wanted++ = i < time ? to.data<int32_t>()[b * time + i] : -1;
  }
  return points;
}

AugmentedModel::AugmentedModel(const AugmentedOptions& o, const Build& build) : options_(o) {
  PretrainedOptions pretrained;
  pretrained.dtype = build.dtype;
  pretrained.device = build.device;
  pretrained.frozen = !o.train_base;
  pretrained.rematerialize = o.rematerialize;
  LoadedModel loaded = load_pretrained(o.base, pretrained);
  auto* transformer = dynamic_cast<Transformer*>(loaded.model.get());
  require(transformer && !transformer->has_memory(),
          "{} is not a plain transformer, which "
          "latents need: name a base without a memory "
          "module or latents",
          o.base);
  ends_ = loaded.ends;
  base_ = static_cast<Transformer*>(&adopt("base", std::move(loaded.model)));
  if (!o.train_base) frozen_ = reverie::frozen_base(o.base, "base.", *base_, loaded.component);
  source_ = static_cast<LatentSource*>(
      &adopt("latents", LatentRegistry::instance().make(o.latents, LatentSite{*base_, build})));
  require(o.train_base || source_->parameter_count() > 0,
          "the latents \"{}\" have no weights of their own to train: set train_base to true",
          o.latents.type);
  // Latents and the tokens behind them sit further than the text itself.
  const int64_t reach = o.block_size + source_->count() + o.ahead;
  require(base_->block_size() >= reach,
          "texts of {} tokens with {} latents and {} tokens ahead reach position {}, but the base "
          "knows {} (block_size)",
          o.block_size, source_->count(), o.ahead, reach, base_->block_size());
  require(o.delay + o.ahead <= o.block_size,
          "a delay of {} and {} tokens ahead do not fit a text of {} tokens", o.delay, o.ahead,
          o.block_size);
}

AugmentedModel::Text AugmentedModel::read(const Tensor& tokens) {
  // A frozen base's text needs no graph: only the groups' rows do.
  std::optional<NoGrad> no_graph;
  if (!options_.train_base) no_graph.emplace();
  Text text;
  text.tokens = tokens;
  text.keys.base = frozen_.hash;
  CausalContext causal(tokens.size(1));
  RecordingContext rows(causal, text.keys);
  text.hidden =
      base_->blocks().forward(base_->placed(base_->token_rows(tokens), rows.positions()), rows);
  return text;
}

Variable AugmentedModel::latents_for(const Tensor& tokens, const Tensor& limits) {
  return latents_for(read(tokens), limits);
}
Variable AugmentedModel::latents_for(const Text& text, const Tensor& limits) {
  // With a delay the source has read less than the base when its latents arrive.
  return source_->latents(
      TextView(text.keys, text.hidden, shifted(limits, -options_.delay, 1), text.tokens));
}
OwnLoss AugmentedModel::own_loss(const Text& text, const Tensor& limits, const Variable& latents) {
  return source_->own_loss(
      TextView(text.keys, text.hidden, shifted(limits, -options_.delay, 1), text.tokens), latents);
}
OwnLoss AugmentedModel::own_loss(const Tensor& tokens, const Tensor& limits) {
  const Text text = read(tokens);
  return own_loss(text, limits, latents_for(text, limits));
}

Variable AugmentedModel::ahead_hidden(const Tensor& tokens, const InsertionPoints& points,
                                      const Variable& latents) {
  return ahead_hidden(read(tokens), points, latents);
}

Variable AugmentedModel::ahead_hidden(const Text& text, const InsertionPoints& points,
                                      const Variable& given) {
  const int64_t groups = points.limits.size(1), count = source_->count(),
                ahead = points.targets.size(1) / groups, rows = rows_read(ahead);
  const Variable latents = given ? given : latents_for(text, points.limits);
  const auto with_ahead = [&](const Variable& first) {
    if (ahead == 1) return first;
    return flat(
        concat({by_group(first, groups), by_group(base_->token_rows(points.ahead), groups)}, 2));
  };
  const auto states = [&](const Variable& x, RowContext& context) {
    return base_->blocks().forward(base_->placed(x, context.positions()), context);
  };
  if (source_->writes_cache()) {
    const KeyValues known = unpacked_cache(latents, base_->shape().layers);
    const Tensor before = shifted(points.limits, -1, 0);
    PrefixedGroupsContext context(text.keys, before, known, rows);
    return states(with_ahead(base_->token_rows(tokens_at(text.tokens, before))), context);
  }
  PackedGroupsContext context(text.keys, points.limits, rows, source_->mask(), count - 1);
  return states(with_ahead(latents), context);
}

AugmentedModel::Text AugmentedModel::snapshot(const SequenceState& written, const Variable& hidden,
                                              const Tensor& tokens) const {
  Text text{tokens.clone(), {}, Variable(hidden.tensor().clone())};
  text.keys.base = frozen_.hash;
  for (const KvCache& layer : written.layers)
    text.keys.layers.push_back({Variable(layer.key().clone()), Variable(layer.value().clone())});
  return text;
}

Variable AugmentedModel::latents_for(const Text& text) {
  const KeyValues& keys = text.keys;
  return source_->latents(
      TextView(keys, text.hidden,
               Tensor::full({keys.batch(), 1}, double(keys.length()), DType::i32), text.tokens));
}

Variable AugmentedModel::latents_for(const SequenceState& written, const Variable& hidden,
                                     const Tensor& tokens) {
  Text text{tokens, {}, hidden};
  text.keys.base = frozen_.hash;
  for (const KvCache& layer : written.layers)
    text.keys.layers.push_back(
        {Variable(layer.key().contiguous()), Variable(layer.value().contiguous())});
  return latents_for(text);
}

Variable AugmentedModel::insert(SequenceState& written, const Tensor& last,
                                const Variable& latents) {
  const int64_t count = source_->count();
  require(written.use_cache && written.position > 0,
          "latents need a text in the cache before "
          "them: process a prompt first");
  require(written.position + count <= base_->block_size(),
          "{} latents behind {} tokens reach beyond the base's block_size {}", count,
          written.position, base_->block_size());
  if (source_->writes_cache()) {
    const KeyValues known = unpacked_cache(latents, base_->shape().layers);
    for (size_t i = 0; i < known.layers.size(); ++i) {
      written.layers[i].shorten(written.position - 1);
      written.layers[i].append(known.layers[i].key.tensor(), known.layers[i].value.tensor());
    }
    written.position += count - 1;
    return base_->hidden(last, &written);
  }
  const GroupMask mask = source_->mask();
  if (!mask.latents_see_text) {  // they begin a text of their own
    written.layers.assign(written.layers.size(), {});
    written.position = 0;
  }
  CacheContext rows(written, count);
  const Variable hidden = base_->blocks().forward(base_->placed(latents, rows.positions()), rows);
  written.position += count;
  // What no token will see need not be kept.
  if (!mask.tokens_see_text)
    for (KvCache& layer : written.layers)
      layer = mask.tokens_see_latents ? layer.last(count) : KvCache();
  return slice(hidden, 1, count - 1, count);
}

Tensor AugmentedModel::draw_limits(const Tensor& tokens) const {
  const int64_t batch = tokens.size(0), groups = options_.groups,
                last = tokens.size(1) + 1 - options_.ahead;  // the largest limit
  const int64_t first = 1 + options_.delay;
  require(last >= first, "a text of {} tokens is too short for {} tokens ahead", tokens.size(1),
          options_.ahead);
  Tensor limits = Tensor::empty({batch, groups}, DType::i32);
  int32_t* out = limits.mutable_data<int32_t>();
  // A block of random numbers for each group, so that a text's groups do not depend on which other
  // texts are at hand.
  Generator& random = default_generator();
  const uint64_t block = training() ? random.reserve(uint64_t(batch * groups) * 4) : 0;
  for (int64_t b = 0; b < batch; ++b) {
    std::vector<int32_t> drawn(static_cast<size_t>(groups));
    for (int64_t g = 0; g < groups; ++g)
      drawn[size_t(g)] = int32_t(
          training() ? first + int64_t(philox_below(random.seed(), block + uint64_t(b * groups + g),
                                                    uint64_t(last - first + 1)))
                     : first + (last - first) * g / groups);
    // In order, groups that stand side by side read nearly the same keys.
    std::sort(drawn.begin(), drawn.end());
    out = std::copy(drawn.begin(), drawn.end(), out);
  }
  return limits;
}

Variable AugmentedModel::loss(const Tensor& tokens, const Tensor& targets, double weight_per_target,
                              SequenceState*) {
  const InsertionPoints points =
      options_.insert == "targets"
          ? points_at_targets(tokens, targets, options_.ahead)
          : insertion_points(tokens, targets, draw_limits(tokens), options_.ahead);
  const auto count = [](const Tensor& t) {
    const Tensor host = t.to(Device{}).contiguous();
    const int32_t* id = host.data<int32_t>();
    return std::count_if(id, id + host.numel(), [](int32_t x) { return x >= 0; });
  };
  const int64_t scored = count(points.targets);
  require(scored > 0, "no token ahead of an insertion point has a target");
  const double all = weight_per_target * double(count(targets)),
               own = training() ? source_->own_share() : 0;
  const Text text = read(tokens);
  const Variable latents = latents_for(text, points.limits);
  const Variable ahead = base_->loss_of(ahead_hidden(text, points, latents), points.targets,
                                        all * (1 - own) / double(scored));
  if (own == 0) return ahead;
  // One group of each text, drawn at random: the source's own loss may be as long as the text.
  const int64_t batch = tokens.size(0), groups = points.limits.size(1), size = source_->count();
  std::vector<Variable> chosen;
  Tensor limits = Tensor::empty({batch, 1}, DType::i32);
  const uint64_t block = default_generator().reserve(uint64_t(batch) * 4),
                 seed = default_generator().seed();
  for (int64_t b = 0; b < batch; ++b) {
    const auto g = int64_t(philox_below(seed, block + uint64_t(b), uint64_t(groups)));
    limits.mutable_data<int32_t>()[b] = points.limits.data<int32_t>()[b * groups + g];
    chosen.push_back(slice(slice(latents, 0, b, b + 1), 1, g * size, (g + 1) * size));
  }
  const OwnLoss of_source = own_loss(text, limits, concat(chosen, 0));
  require(of_source.targets > 0, "the latents' own loss has no target");
  return add(ahead, scale(of_source.sum, all * own / double(of_source.targets)));
}

double AugmentedModel::forward_flops_per_token(int64_t length) const {
  const TransformerShape& base = base_->shape();
  const double per_row = base_->forward_flops_per_token(length),
               head = 2 * double(base.features * base.vocabulary),
               groups = double(options_.groups) / double(length),
               rows = groups * double(rows_read(options_.ahead)),
               unwanted = rows - groups * double(options_.ahead);
  const int64_t half = (length + 1) / 2,  // of the text, where an insertion is in the mean
      window = base.per_layer.back().window;
  // Only rows that predict have logits; of those that do not, the text's go through the last block
  // (its source may want their states), the groups' do not.
  return per_row * (1 + rows) - head * (1 + unwanted) -
         unwanted * base_->blocks().unwanted_row_flops(
                        double(window > 0 ? std::min(window, half) : half)) +
         groups * source_->flops_per_group(half) + source_->flops_per_text(length) / double(length);
}

double AugmentedModel::insertion_flops(int64_t length) const {
  const auto keys = [length](const LayerShape& layer) {
    return double(layer.window > 0 ? std::min(layer.window, length) : length);
  };
  return source_->flops_per_text(length) + source_->flops_per_group(length) +
         double(rows_read(1)) * base_->blocks().forward_flops_per_row(keys);
}

}  // namespace reverie
