#include "trainers/benchmarks/continuation_scores.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>

#include "autograd/ops/embedding.h"
#include "autograd/ops/shape.h"
#include "core/error.h"
#include "core/parallel.h"
#include "kernels/softmax.h"
#include "layers/forked_state.h"

namespace reverie {
namespace {

constexpr int64_t kMostLogits = int64_t(1) << 25;  // numbers at once: a vocabulary makes rows long

// A token that a row of hidden states predicts, and the continuation that it counts for.
struct Wanted {
  int64_t row = 0;  // of [N, C]
  int32_t token = 0;
  size_t reading = 0, continuation = 0;
};

using Scores = std::vector<std::vector<ContinuationScore>>;

template <class T>
void add_scores(const T* logits, const T* sums, int64_t vocabulary,
                const std::vector<std::vector<const Wanted*>>& rows, Scores& scores) {
  std::vector<std::vector<ContinuationScore>> found(rows.size());
  share_out(int64_t(rows.size()), rows.size() > 1, [&](int64_t i) {
    const T* row = logits + i * vocabulary;
    const auto likeliest = int32_t(std::max_element(row, row + vocabulary) - row);
    for (const Wanted* w : rows[size_t(i)])
      found[size_t(i)].push_back({double(row[w->token]) - double(sums[i]), w->token == likeliest});
  });
  for (size_t i = 0; i < rows.size(); ++i)
    for (size_t k = 0; k < rows[i].size(); ++k) {
      ContinuationScore& score = scores[rows[i][k]->reading][rows[i][k]->continuation];
      score.log_likelihood += found[i][k].log_likelihood;
      score.greedy = score.greedy && found[i][k].greedy;
    }
}

// Adds what final hidden states [N, C] say of the wanted tokens, which are sorted by row.
void add_scores(LanguageModel& model, const Variable& hidden, const std::vector<Wanted>& wanted,
                Scores& scores) {
  const int64_t vocabulary = model.vocabulary_size(),
                most = std::max<int64_t>(1, kMostLogits / vocabulary);
  std::vector<std::vector<const Wanted*>> rows;
  std::vector<int32_t> places, first_tokens;
  const auto flush = [&] {
    if (rows.empty()) return;
    const int64_t count = int64_t(rows.size());
    const Variable chosen =
        embedding(Tensor::from<int32_t>({1, count}, places).to(hidden.device()), hidden);
    const Tensor logits = model.logits_of(chosen).tensor().contiguous().view({count, vocabulary});
    Tensor loss = Tensor::empty({count}, logits.dtype(), logits.device()),
           sums = Tensor::empty({count}, logits.dtype(), logits.device());
    const Tensor targets = Tensor::from<int32_t>({count}, first_tokens).to(logits.device());
    kernel::cross_entropy_forward(logits.device(), {logits, targets, loss, sums});
    const Tensor host = logits.to(Device{}), host_sums = sums.to(Device{});
    if (host.dtype() == DType::f64)
      add_scores(host.data<double>(), host_sums.data<double>(), vocabulary, rows, scores);
    else
      add_scores(host.data<float>(), host_sums.data<float>(), vocabulary, rows, scores);
    rows.clear();
    places.clear();
    first_tokens.clear();
  };
  for (const Wanted& w : wanted) {
    if (places.empty() || places.back() != int32_t(w.row)) {
      if (int64_t(rows.size()) >= most) flush();
      rows.emplace_back();
      places.push_back(int32_t(w.row));
      first_tokens.push_back(w.token);
    }
    rows.back().push_back(&w);
  }
  flush();
}

Variable flat(const Variable& hidden) {
  return reshape(hidden, {hidden.size(0) * hidden.size(1), hidden.size(2)});
}

// A continuation that goes on behind its first token.
struct Rest {
  size_t reading = 0, continuation = 0;  // places in the batch
  const std::vector<int32_t>* tokens = nullptr;
};

// The tokens behind the first of continuations that have more, beside others of the same length: how
// attention adds up may depend on the number of rows.
void score_rests(TextReader& reader, const SequenceState& state, std::vector<Rest> rests,
                 bool audited, Scores& scores) {
  std::stable_sort(rests.begin(), rests.end(), [](const Rest& a, const Rest& b) {
    return a.tokens->size() > b.tokens->size();
  });
  for (size_t begin = 0; begin < rests.size();) {
    const int64_t time = int64_t(rests[begin].tokens->size()) - 1,
                  most = most_texts(reader.options().batch_tokens, time, state.position + time);
    size_t end = begin;
    std::vector<int64_t> of;
    std::vector<int32_t> tokens;
    std::vector<Wanted> wanted;
    for (; end < rests.size() && int64_t(end - begin) < most &&
           int64_t(rests[end].tokens->size()) == time + 1;
         ++end) {
      const std::vector<int32_t>& all = *rests[end].tokens;
      of.push_back(int64_t(rests[end].reading));
      tokens.insert(tokens.end(), all.begin(), all.end() - 1);
      for (int64_t t = 0; t < time; ++t)
        wanted.push_back({int64_t(end - begin) * time + t, all[size_t(t) + 1], rests[end].reading,
                          rests[end].continuation});
    }
    SequenceState forked = forked_state(state, of);
    const Tensor read = Tensor::from<int32_t>({int64_t(end - begin), time}, tokens);
    add_scores(reader.model(), flat(reader.hidden(read, &forked, audited && begin == 0)), wanted,
               scores);
    begin = end;
  }
}

void score_from_cache(TextReader& reader, const std::vector<Reading>& readings,
                      const ReadingPlan& plan, const ReadingBatch& batch, bool audited,
                      Scores& scores) {
  const ReadBatch read = reader.read(readings, plan, batch, audited);
  std::vector<Wanted> first;
  std::vector<Rest> rests;
  for (size_t b = 0; b < batch.readings.size(); ++b) {
    const Reading& reading = readings[batch.readings[b]];
    for (size_t c = 0; c < reading.continuations.size(); ++c) {
      const std::vector<int32_t>& tokens = reading.continuations[c].tokens;
      first.push_back({int64_t(b), tokens[0], b, c});
      if (tokens.size() > 1) rests.push_back({b, c, &tokens});
    }
  }
  add_scores(reader.model(), flat(read.last), first, scores);
  score_rests(reader, read.state, std::move(rests), audited, scores);
}

// Contexts with their continuations behind the batch's common beginning, as texts of their own.
void score_whole_texts(TextReader& reader, const std::vector<Reading>& readings,
                       const ReadingPlan& plan, const ReadingBatch& batch, bool audited,
                       Scores& scores) {
  const size_t known = plan.beginnings[batch.beginning].size();
  std::map<size_t, std::vector<std::pair<size_t, size_t>>> by_length;
  for (size_t b = 0; b < batch.readings.size(); ++b) {
    const Reading& reading = readings[batch.readings[b]];
    for (size_t c = 0; c < reading.continuations.size(); ++c)
      by_length[reading.context.size() - known + reading.continuations[c].tokens.size() - 1]
          .emplace_back(b, c);
  }
  for (const auto& [length, texts] : by_length) {
    const size_t most =
        size_t(std::max<int64_t>(1, reader.options().batch_tokens / int64_t(length)));
    for (size_t begin = 0; begin < texts.size(); begin += most) {
      const size_t end = std::min(texts.size(), begin + most);
      std::vector<int32_t> tokens;
      std::vector<Wanted> wanted;
      for (size_t i = begin; i < end; ++i) {
        const auto [b, c] = texts[i];
        const Reading& reading = readings[batch.readings[b]];
        const std::vector<int32_t>& rest = reading.continuations[c].tokens;
        tokens.insert(tokens.end(), reading.context.begin() + std::ptrdiff_t(known),
                      reading.context.end());
        tokens.insert(tokens.end(), rest.begin(), rest.end() - 1);
        const size_t first = (i - begin + 1) * length - rest.size();
        for (size_t t = 0; t < rest.size(); ++t)
          wanted.push_back({int64_t(first + t), rest[t], b, c});
      }
      const Tensor read = Tensor::from<int32_t>({int64_t(end - begin), int64_t(length)}, tokens);
      const Variable states = reader.read_behind(plan, batch, read, audited && begin == 0);
      add_scores(reader.model(), flat(states), wanted, scores);
    }
  }
}

}  // namespace

std::vector<std::vector<ContinuationScore>> score_continuations(
    TextReader& reader, const std::vector<Reading>& readings, const ReadingPlan& plan,
    const ReadingBatch& batch, bool audited) {
  Scores scores;
  for (const size_t i : batch.readings) scores.emplace_back(readings[i].continuations.size());
  if (reader.caches() && !batch.whole)
    score_from_cache(reader, readings, plan, batch, audited, scores);
  else
    score_whole_texts(reader, readings, plan, batch, audited, scores);
  for (size_t b = 0; b < scores.size(); ++b)
    for (size_t c = 0; c < scores[b].size(); ++c)
      if (!std::isfinite(scores[b][c].log_likelihood))
        throw DivergedError(fmt::format(
            "the log-likelihood of choice {} of item {} is {}: the model's weights are "
            "broken",
            readings[batch.readings[b]].continuations[c].choice,
            readings[batch.readings[b]].continuations[c].item, scores[b][c].log_likelihood));
  return scores;
}

}  // namespace reverie
