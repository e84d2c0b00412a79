#include "trainers/benchmarks/greedy_texts.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "core/error.h"
#include "core/parallel.h"
#include "core/signals.h"
#include "layers/forked_state.h"
#include "trainers/evaluation/generate.h"

namespace reverie {
namespace {

template <class T>
int32_t likeliest(const T* row, int64_t known, int64_t vocabulary) {
  bool finite = true;
  for (int64_t i = 0; i < vocabulary; ++i) finite = finite && std::isfinite(row[i]);
  return finite ? int32_t(std::max_element(row, row + known) - row) : -1;
}

// The likeliest token of each row of logits [N, 1, V], among the tokenizer's.
std::vector<int32_t> likeliest_tokens(const Tensor& logits, int64_t known) {
  const Tensor host = logits.to(Device{}).contiguous();
  const int64_t count = host.size(0), vocabulary = host.size(-1);
  std::vector<int32_t> tokens(static_cast<size_t>(count));
  share_out(count, count > 1, [&](int64_t i) {
    tokens[size_t(i)] = host.dtype() == DType::f64
                            ? likeliest(host.data<double>() + i * vocabulary, known, vocabulary)
                            : likeliest(host.data<float>() + i * vocabulary, known, vocabulary);
  });
  return tokens;
}

// A text as it grows.
class Writing {
 public:
  explicit Writing(const WritingOptions& options) : options_(options) {}
  // Whether the text goes on.
  bool add(int32_t token) {
    ++written_.tokens;
    if (std::find(options_.ends.begin(), options_.ends.end(), token) != options_.ends.end())
      return false;
    tokens_.push_back(token);
    if (cut_at_stop()) return false;
    return written_.tokens < options_.max_tokens;
  }
  WrittenText finish() {
    if (!stopped_) written_.text = options_.tokenizer.decode_continued(tokens_);
    return written_;
  }

 private:
  bool cut_at_stop() {
    if (options_.stop.empty()) return false;
    const std::string text = options_.tokenizer.decode_continued(tokens_);
    size_t first = text.npos;
    for (const std::string& stop : options_.stop) first = std::min(first, text.find(stop));
    if (first == text.npos) return false;
    stopped_ = true;
    written_.text = text.substr(0, first);
    return true;
  }

  const WritingOptions& options_;
  std::vector<int32_t> tokens_;
  WrittenText written_;
  bool stopped_ = false;
};

WrittenText write_alone(LanguageModel& model, const std::vector<int32_t>& prompt,
                        const WritingOptions& options) {
  GenerateOptions generation;
  generation.temperature = 0;
  generation.max_tokens = options.max_tokens;
  generation.ends = options.ends;
  generation.vocabulary = options.tokenizer.vocabulary_size();
  Writing writing(options);
  bool goes_on = true;
  for (const int32_t token : generate(model, prompt, generation))
    if (goes_on) goes_on = writing.add(token);
  return writing.finish();
}

}  // namespace

std::vector<WrittenText> write_texts(TextReader& reader, const std::vector<Reading>& prompts,
                                     const ReadingPlan& plan, const ReadingBatch& batch,
                                     const WritingOptions& options, bool audited) {
  LanguageModel& model = reader.model();
  std::vector<WrittenText> out(batch.readings.size());
  if (!reader.caches()) {
    for (size_t b = 0; b < out.size(); ++b)
      out[b] = write_alone(model, prompts[batch.readings[b]].context, options);
    return out;
  }
  const int64_t known =
      std::min<int64_t>(options.tokenizer.vocabulary_size(), model.vocabulary_size());
  ReadBatch read = reader.read(prompts, plan, batch, audited);
  std::vector<Writing> writings(batch.readings.size(), Writing(options));
  std::vector<size_t> rows(batch.readings.size());  // the text that each row of the state holds
  for (size_t b = 0; b < rows.size(); ++b) rows[b] = b;
  std::vector<bool> goes_on(rows.size(), true);
  Variable last = read.last;
  for (;;) {
    stop_if_requested();
    std::vector<int32_t> tokens = likeliest_tokens(model.logits_of(last).tensor(), known);
    std::vector<int64_t> kept;
    for (size_t r = 0; r < rows.size(); ++r) {
      if (tokens[r] < 0)
        throw DivergedError(
            "the logits after a prompt are not finite: the model's weights are broken");
      if (goes_on[rows[r]]) goes_on[rows[r]] = writings[rows[r]].add(tokens[r]);
      if (goes_on[rows[r]]) kept.push_back(int64_t(r));
    }
    if (kept.empty()) break;
    if (2 * kept.size() <= rows.size()) {
      read.state = forked_state(read.state, kept);
      std::vector<size_t> left;
      std::vector<int32_t> left_tokens;
      for (const int64_t r : kept) {
        left.push_back(rows[size_t(r)]);
        left_tokens.push_back(tokens[size_t(r)]);
      }
      rows = std::move(left);
      tokens = std::move(left_tokens);
    }
    last = model.hidden(Tensor::from<int32_t>({int64_t(rows.size()), 1}, tokens), &read.state);
  }
  for (size_t b = 0; b < out.size(); ++b) out[b] = writings[b].finish();
  return out;
}

}  // namespace reverie
