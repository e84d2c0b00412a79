#include "trainers/probes/causality.h"

#include <algorithm>
#include <cmath>
#include <optional>

#include "core/error.h"
#include "layers/thinking_model.h"
#include "trainers/probes/cut_sweep.h"
#include "trainers/probes/gate_effort.h"
#include "trainers/probes/probing_mode.h"
#include "trainers/probes/reduced_model.h"
#include "trainers/probes/rounding.h"

namespace reverie {
namespace {

// Rows of the batch that asks every cut.
constexpr int64_t kSweepRows = 16;

// Around powers of two, where segments and chunks end, and before the last token.
std::vector<int64_t> cuts_of(int64_t length) {
  std::vector<int64_t> cuts;
  for (int64_t cut : {1, 3, 7, 15, 31, 32, 63, 64, 127, 128, 255, 256, 511, 512})
    if (cut < length - 1) cuts.push_back(cut);
  if (length > 1) cuts.push_back(length - 1);
  return cuts;
}

// The kinds of failure, the graver the larger: where repeats differ, no other probe means much.
enum class ProbeKind { consistency, rows, future, repeat };
// Whether both sides of a comparison come from products of the same shapes, with the same rows in
// the same places; if not, sums may be ordered differently.
enum class Shapes { same, other };

// Collects one probe's comparisons: base[row, begin..end) against moved.
class Comparison {
 public:
  // Row `row` of base [B, T, V] at positions begin .. end - 1 against row `moved_row` of moved,
  // whose position 0 is position `moved_from` of base.
  void row(const Tensor& base, const Tensor& moved, int64_t row, int64_t moved_row, int64_t begin,
           int64_t end, int64_t cut = -1, int64_t moved_from = 0) {
    const int64_t vocabulary = base.size(2);
    for (int64_t t = begin; t < end; ++t) {
      const double* a = base.data<double>() + (row * base.size(1) + t) * vocabulary;
      const double* b =
          moved.data<double>() + (moved_row * moved.size(1) + t - moved_from) * vocabulary;
      double largest = 0;
      for (int64_t i = 0; i < vocabulary; ++i) {
        const double difference = std::abs(a[i] - b[i]);
        // Not a number, or infinite: as large as can be.
        if (!(difference <= largest)) largest = std::isfinite(difference) ? difference : INFINITY;
        largest_logit_ = std::max(largest_logit_, std::abs(a[i]));
      }
      if (largest > change_) {
        change_ = largest;
        position_ = t;
        place_ = cut >= 0 ? fmt::format("cut {}, ", cut) : "";
        row_ = row;
      }
    }
  }
  // The same row of both, for all rows first .. last - 1.
  void rows(const Tensor& base, const Tensor& moved, int64_t first, int64_t last, int64_t begin,
            int64_t end, int64_t cut = -1) {
    for (int64_t r = first; r < last; ++r) row(base, moved, r, r, begin, end, cut);
  }

  double change() const { return change_; }
  double scale() const { return std::max(1.0, std::isfinite(largest_logit_) ? largest_logit_ : 1); }
  int64_t position() const { return position_; }
  void take(const HiddenMovement& m) {
    if (m.change() <= change_) return;
    change_ = m.change();
    largest_logit_ = std::max(largest_logit_, m.scale());
    position_ = m.position();
    row_ = m.row();
    place_ = m.note().empty() ? "" : m.note() + ", ";
  }
  // "cut 31, position 12, row 0, "
  std::string where() const {
    return fmt::format("{}position {}, row {}, ", place_, position_, row_);
  }
  // "row 0, cut 31, "
  std::string beside() const { return fmt::format("row {}, {}", row_, place_); }

 private:
  double change_ = 0, largest_logit_ = 0;
  int64_t position_ = -1, row_ = -1;
  std::string place_;
};

class Prober {
 public:
  Prober(LanguageModel& model, const CausalityOptions& options)
      : model_(model),
        rows_(options.sequences),
        exact_(options.exact),
        precision_(options.precision),
        random_(options.seed),
        dropout_seed_(options.seed) {
    require(rows_ >= 2, "the causality probe needs at least 2 sequences, got {}", rows_);
    require(options.max_length >= 2, "the causality probe needs at least 2 tokens, got {}",
            options.max_length);
    require(model.vocabulary_size() >= 2,
            "the causality probe changes tokens: it needs a vocabulary of at least 2, got {}",
            model.vocabulary_size());
    length_ = std::min(model.block_size(), options.max_length);
    // Odd, and one more than a multiple of the usual piece lengths.
    const int64_t shorter = length_ / 2 | 1;
    if (shorter < length_)
      lengths_ = {length_, shorter};
    else
      lengths_ = {length_};
    report_.subject = fmt::format("{} sequences of {} random tokens{}", rows_, length_,
                                  lengths_.size() > 1 ? fmt::format(" (and of {})", shorter) : "");
    report_.subject += length_ < model.block_size()
                           ? fmt::format(", cut short from block_size {}", model.block_size())
                           : ", the whole block";
    rounding_ = rounding_of(model, length_);
  }

  CausalityReport run() {
    for (const bool train : {false, true}) {
      const ProbingMode mode(model_, train, train ? precision_ : MatmulPrecision::full);
      if (train && precision_ == MatmulPrecision::bf16) kept_ = thought_token_of(model_);
      for (const int64_t length : lengths_) whole(train, length);
      if (model_.carries_memory())
        carried(train, false, length_, length_);
      else if (!train)
        not_offered("carrying memory from one window to the next");
    }
    kept_.reset();
    const ProbingMode mode(model_, false, MatmulPrecision::full);
    if (model_.incremental()) {
      const int64_t first = std::max<int64_t>(1, (length_ / 3) | 1);
      if (first < length_) carried(false, true, first, length_ - first);
      decode();
    } else {
      not_offered("decoding with a KV cache");
    }
    report_.subject += ", " + rounding_.text;
    if (report_.causal())
      report_.worst = fmt::format("no logit moved by more than {:.2g}", largest_change_);
    return std::move(report_);
  }

 private:
  // ---- inputs and outputs ----
  Tensor random_tokens(int64_t length) { return random_tokens(rows_, length); }
  Tensor random_tokens(int64_t rows, int64_t length) {
    std::vector<int32_t> tokens(size_t(rows * length));
    for (int32_t& t : tokens) t = int32_t(random_.below(uint64_t(model_.vocabulary_size())));
    Tensor texts = Tensor::from<int32_t>({rows, length}, tokens);
    round_as(texts);
    return texts;
  }
  // Rounding of these texts, where they think more than those before.
  void round_as(const Tensor& texts) {
    const Rounding r = rounding_of(model_, texts);
    if (r.other_shape > rounding_.other_shape) rounding_ = r;
  }
  // Other tokens in rows first .. last - 1 from column `cut` on.
  Tensor changed(const Tensor& tokens, int64_t first, int64_t last, int64_t cut) {
    Tensor other = tokens.clone();
    const int64_t length = tokens.size(1), vocabulary = model_.vocabulary_size();
    int32_t* data = other.mutable_data<int32_t>();
    for (int64_t r = first; r < last; ++r)
      for (int64_t t = cut; t < length; ++t) {
        int32_t& token = data[r * length + t];
        token =
            int32_t((token + 1 + int64_t(random_.below(uint64_t(vocabulary - 1)))) % vocabulary);
      }
    return kept_ ? thinking_where(tokens, other, *kept_) : other;
  }
  Tensor changed(const Tensor& tokens, int64_t cut) { return changed(tokens, 0, rows_, cut); }
  // [B, T, V] in f64 on the CPU. In train mode every call draws the same dropout masks.
  Tensor logits(const Tensor& tokens, SequenceState* state = nullptr) {
    default_generator() = Generator(dropout_seed_);
    const Tensor all =
        model_.logits(tokens, state).tensor().to(Device{}).to(DType::f64).contiguous();
    require_finite(all, "random tokens");
    return all;
  }

  // ---- findings ----
  void add(ProbeKind kind, const std::string& name, const Comparison& c, const std::string& site,
           Shapes shapes = Shapes::same) {
    Probe p;
    p.name = name;
    p.change = c.change();
    p.rounding =
        c.scale() * (shapes == Shapes::same ? rounding_.same_shape : rounding_.other_shape);
    p.tolerance = exact_ && shapes == Shapes::same ? 0 : p.rounding;
    p.ok = p.change <= p.tolerance;
    p.future = kind == ProbeKind::future;
    p.leak = kind != ProbeKind::consistency;
    p.where = (p.ok ? "" : c.where()) + site;
    p.site = site;
    if (p.future)
      report_.max_future_logit_change = std::max(report_.max_future_logit_change, p.change);
    largest_change_ = std::max(largest_change_, p.change);
    if (!p.ok && (kind > worst_kind_ || (kind == worst_kind_ && p.change > worst_change_) ||
                  report_.worst.empty())) {
      worst_kind_ = kind;
      worst_change_ = p.change;
      report_.worst = fmt::format("{} moves the logit of position {} by {:.3g} ({}{})", name,
                                  c.position(), p.change, c.beside(), site);
    }
    report_.probes.push_back(std::move(p));
  }
  void not_offered(const std::string& name) {
    Probe p;
    p.name = name;
    p.offered = false;
    p.where = p.site = "not offered by this model";
    report_.probes.push_back(std::move(p));
  }

  // ---- probes ----
  void whole(bool train, int64_t length) {
    const std::string site = fmt::format("{} mode, {} tokens", train ? "train" : "eval", length);
    const Tensor tokens = random_tokens(length), base = logits(tokens);
    auto all = [&](const Tensor& moved) {
      Comparison c;
      c.rows(base, moved, 0, rows_, 0, length);
      return c;
    };
    add(ProbeKind::repeat, "running the same input again", all(logits(tokens)), site);
    logits(random_tokens(length));
    add(ProbeKind::repeat, "running it again after an unrelated input", all(logits(tokens)), site);

    Comparison others;
    others.rows(base, logits(changed(tokens, rows_ - 1, rows_, 0)), 0, rows_ - 1, 0, length);
    others.rows(base, logits(changed(tokens, 0, 1, 0)), 1, rows_, 0, length);
    add(ProbeKind::rows, "changing another row", others, site);

    // Rows that mix would move in every sweep, and what they read of later tokens could not be told.
    const bool sweep = length == length_ && report_.probes.back().ok;
    Comparison suffix, last_token, shortened;
    if (sweep) suffix.take(every_cut(length, site));
    for (int64_t cut : cuts_of(length)) {
      if (cut == length - 1)
        last_token.rows(base, logits(changed(tokens, cut)), 0, rows_, 0, cut, cut);
      else if (!sweep)
        suffix.rows(base, logits(changed(tokens, cut)), 0, rows_, 0, cut, cut);
      // Masks of another shape are other masks.
      if (!train)
        shortened.rows(base, logits(tokens.slice(1, 0, cut).contiguous()), 0, rows_, 0, cut, cut);
    }
    add(ProbeKind::future, "changing all tokens from the cut on", suffix, site);
    add(ProbeKind::future, "changing the last token", last_token, site);
    if (!train)
      add(ProbeKind::future, "leaving out all tokens from the cut on", shortened, site,
          Shapes::other);

    if (train) return;  // masks stay with the place, not with the row
    Tensor rotated = tokens.clone();
    for (int64_t r = 0; r < rows_; ++r) {
      Tensor place = rotated.slice(0, (r + 1) % rows_, (r + 1) % rows_ + 1);
      place.copy_from(tokens.slice(0, r, r + 1));
    }
    const Tensor moved = logits(rotated);
    Comparison permuted;
    for (int64_t r = 0; r < rows_; ++r) permuted.row(base, moved, r, (r + 1) % rows_, 0, length);
    add(ProbeKind::consistency, "permuting the rows", permuted, site, Shapes::other);
  }

  // Final hidden states say it as well as logits, and are shorter.
  HiddenMovement every_cut(int64_t length, const std::string& site) {
    const auto hidden_of = [&](const Tensor& tokens) {
      default_generator() = Generator(dropout_seed_);
      return model_.hidden(tokens).tensor();
    };
    const Tensor tokens = random_tokens(kSweepRows, length),
                 donors = random_tokens(kSweepRows, length);
    HiddenMovement found(model_);
    const auto behind_cuts = [&](const Tensor& other) {
      return hidden_of(kept_ ? thinking_where(tokens, other, *kept_) : other);
    };
    sweep_cuts(behind_cuts, tokens, hidden_of(tokens), donors, plan_cuts(kSweepRows, length, 0, 0),
               model_.vocabulary_size(), site, found);
    return found;
  }

  // Two pieces of a text, the second from the first one's state. `cache`: pieces of one block with
  // a KV cache; else two windows with only the memory between them.
  void carried(bool train, bool cache, int64_t first_length, int64_t second_length) {
    const std::string site =
        fmt::format("{} mode, {} + {} tokens with carried {}", train ? "train" : "eval",
                    first_length, second_length, cache ? "KV cache" : "memory");
    auto after = [&](const Tensor& piece) {
      SequenceState state;
      state.use_cache = cache;
      logits(piece, &state);
      return state;
    };
    auto from = [&](SequenceState state, const Tensor& piece) { return logits(piece, &state); };
    const Tensor first = random_tokens(first_length), second = random_tokens(second_length);
    Tensor both = Tensor::empty({rows_, first_length + second_length}, DType::i32);
    both.slice(1, 0, first_length).copy_from(first);
    both.slice(1, first_length, first_length + second_length).copy_from(second);
    round_as(both);
    const SequenceState state = after(first);
    const Tensor base = from(state, second);
    auto all = [&](const Tensor& moved) {
      Comparison c;
      c.rows(base, moved, 0, rows_, 0, second_length);
      return c;
    };
    add(ProbeKind::repeat, "running the second piece again from the same state",
        all(from(state, second)), site);
    add(ProbeKind::repeat, "running both pieces again", all(from(after(first), second)), site);

    Comparison suffix;
    for (int64_t cut : cuts_of(second_length))
      suffix.rows(base, from(state, changed(second, cut)), 0, rows_, 0, cut, cut);
    add(ProbeKind::future, "changing the second piece from the cut on", suffix, site);

    Comparison others;
    others.rows(base, from(after(changed(first, rows_ - 1, rows_, 0)), second), 0, rows_ - 1, 0,
                second_length);
    others.rows(base, from(after(changed(first, 0, 1, 0)), second), 1, rows_, 0, second_length);
    add(ProbeKind::rows, "changing the first piece of another row", others, site);
  }

  // Decoding with a cache against the full forward.
  void decode() {
    const Tensor tokens = random_tokens(length_), base = logits(tokens);
    auto in_pieces = [&](const std::vector<int64_t>& sizes) {
      Comparison c;
      SequenceState state;
      state.use_cache = true;
      int64_t begin = 0;
      for (size_t i = 0; begin < length_; ++i) {
        const int64_t end = std::min(length_, begin + sizes[i % sizes.size()]);
        const Tensor part = logits(tokens.slice(1, begin, end).contiguous(), &state);
        for (int64_t r = 0; r < rows_; ++r) c.row(base, part, r, r, begin, end, -1, begin);
        begin = end;
      }
      return c;
    };
    const std::string site = fmt::format("eval mode, {} tokens, against the full forward", length_);
    add(ProbeKind::consistency, "decoding token by token", in_pieces({1}), site, Shapes::other);
    add(ProbeKind::consistency, "decoding in pieces of 3, 1, 5 and 7 tokens",
        in_pieces({3, 1, 5, 7}), site, Shapes::other);
  }

  LanguageModel& model_;
  int64_t rows_, length_ = 0;
  bool exact_;
  MatmulPrecision precision_;
  std::vector<int64_t> lengths_;
  Rounding rounding_;
  // The token at which the model thinks, while products are in bf16: changed texts keep it in its
  // places, since sums over other sizes of passes differ by what bf16 makes steps of.
  std::optional<int32_t> kept_;
  Generator random_;
  uint64_t dropout_seed_;
  CausalityReport report_;
  ProbeKind worst_kind_ = ProbeKind::consistency;
  double worst_change_ = 0, largest_change_ = 0;
};

}  // namespace

CausalityReport probe_causality(LanguageModel& model, const CausalityOptions& options) {
  const GeneratorPlace place;
  return Prober(model, options).run();
}

std::unique_ptr<LanguageModel> probing_copy(const Component& model_config,
                                            const NamedTensors* weights, DType dtype) {
  Generator random(1);
  auto model = ModelRegistry::instance().make(model_config, Build{random, dtype});
  if (weights) {
    model->load(*weights);
    return model;
  }
  for (const auto& [name, parameter] : model->parameters())
    redraw_parameter(name, parameter, random);
  return model;
}

CausalityReport gate_causality(const Component& model_config, DType dtype,
                               MatmulPrecision precision) {
  if (dtype != DType::f64) {
    const CausalityReport fast =
        probe_causality(*probing_copy(model_config, nullptr, DType::f32),
                        {.sequences = 2, .exact = true, .precision = precision});
    if (fast.causal() || fast.beyond_rounding()) return fast;
  }
  return probe_causality(*probing_copy(model_config, nullptr), {});
}

std::optional<ArchitectureProbe> probe_architecture(const Component& model_config,
                                                    const LanguageModel& live, DType dtype,
                                                    MatmulPrecision precision) {
  const Component smaller = reduced_model(model_config);
  const bool reduced = *smaller.resolved != *model_config.resolved;
  if (!reduced && copy_probe_limit() > 0 && copy_probe_flops(live) > copy_probe_limit())
    return std::nullopt;
  return ArchitectureProbe{gate_causality(smaller, dtype, precision), reduced};
}

}  // namespace reverie
