#include "trainers/serving/text_writer.h"

#include <algorithm>
#include <exception>
#include <new>

#include "autograd/ops/shape.h"
#include "core/error.h"
#include "core/log.h"
#include "trainers/serving/side_by_side.h"

namespace reverie {
namespace {

// Rows of one forward over several prompts, padding included.
constexpr int64_t kRowsAtOnce = 4096;

// body(), whose error ends these requests alone.
template <class Body>
void guarded(std::span<const PromptJob> jobs, const Body& body) {
  const auto fail = [&](const char* message) {
    log_error("a request failed: {}", message);
    for (const PromptJob& job : jobs) job.of->fail(500, message);
  };
  try {
    body();
  } catch (const std::bad_alloc&) {
    fail("out of memory");
  } catch (const std::exception& e) {
    fail(e.what());
  }
}

std::vector<int32_t> ends_of(const CompletionRequest& request, const ServedModel& model) {
  std::vector<int32_t> ends = request.also_ends;
  if (!request.past_end) ends.insert(ends.end(), model.ends().begin(), model.ends().end());
  return ends;
}

Variable last_row(const Variable& rows) {
  return slice(rows, 1, rows.size(1) - 1, rows.size(1));
}

Tensor between(const std::vector<int32_t>& tokens, int64_t begin, int64_t end) {
  return Tensor::from<int32_t>({1, end - begin},
                               std::vector<int32_t>(tokens.begin() + begin, tokens.begin() + end));
}

}  // namespace

TextWriter::Text TextWriter::text_for(const PromptJob& job) const {
  const CompletionRequest& request = job.of->request;
  const Prompt& prompt = request.prompts[size_t(job.prompt)];
  Text text{.of = job.of,
            .number = job.prompt * request.samples,
            .tokens = prompt.tokens,
            .end = EndingText(model_.tokenizer(),
                              {request.max_tokens, ends_of(request, model_), request.stops})};
  text.state.use_cache = true;
  if (request.latents) {
    text.make_at = prompt.latents_after;
    text.insert_at = prompt.latents_after + model_.latents_late();
    if (const int64_t every = model_.latents_every(); every > 0)
      text.renew_at = int64_t(text.tokens.size()) + every + model_.latents_late();
  }
  return text;
}

bool TextWriter::outgrown(const Text& text) const {
  return int64_t(text.tokens.size()) - text.begin > model_.context();
}

// A full context begins anew with its last half, a long prompt with its last block; memory that is
// carried goes on in consecutive windows.
void TextWriter::make_room(Text& text) {
  if (!outgrown(text)) return;
  require(!text.of->request.latents, "a text of {} tokens with latents is longer than the context",
          text.tokens.size());
  LanguageModel& base = model_.base();
  const int64_t room = model_.context();
  const auto restart = [&](int64_t at) {
    text.begin = text.seen = at;
    text.state = SequenceState();
    text.state.use_cache = true;
  };
  while (base.carries_memory() && base.incremental() && outgrown(text)) {
    const int64_t end = text.begin + room;
    if (end > text.seen) read(text, text.seen, end);
    MemoryState memory = std::move(text.state.memory);
    restart(end);
    text.state.memory = std::move(memory);
  }
  if (!outgrown(text)) return;
  restart(int64_t(text.tokens.size()) - (text.seen == 0 ? room : std::max<int64_t>(1, room / 2)));
}

// Reads the tokens that were not read yet -> final hidden states [1, T, C] of some, the last included.
Variable TextWriter::read_rest(Text& text) {
  make_room(text);
  const auto end = int64_t(text.tokens.size());
  const Variable rows = read(text, text.seen, end);
  text.seen = end;
  return rows;
}

// Tokens [begin, end) behind those that were read -> their final hidden states [1, end - begin, C].
// The row in front of latents is the one that they leave there.
Variable TextWriter::read(Text& text, int64_t begin, int64_t end) {
  LanguageModel& base = model_.base();
  if (!base.incremental())
    return slice(base.hidden(between(text.tokens, text.begin, end), nullptr), 1, begin - text.begin,
                 end - text.begin);
  std::vector<Variable> parts;
  for (int64_t at = begin; at < end;) {
    int64_t stop = end;
    for (const int64_t cut : {text.make_at, text.insert_at})
      if (cut > at && cut < stop) stop = cut;
    const Tensor tokens = between(text.tokens, at, stop);
    Variable rows = base.hidden(tokens, &text.state);
    if (stop == text.make_at) {
      text.latents = model_.augmented()->latents_for(text.state, rows, tokens);
      if (text.renew_at >= 0) text.without_latents = TextWithoutLatents(text.state, rows, tokens);
      text.make_at = -1;
    }
    if (stop == text.insert_at) {
      const Variable behind = insert(text);
      rows = stop - at > 1 ? concat({slice(rows, 1, 0, stop - at - 1), behind}, 1) : behind;
    }
    parts.push_back(rows);
    at = stop;
  }
  return parts.size() == 1 ? parts[0] : concat(parts, 1);
}

Variable TextWriter::insert(Text& text) {
  const Tensor last = between(text.tokens, text.insert_at - 1, text.insert_at);
  text.insert_at = -1;
  return model_.augmented()->insert(text.state, last, text.latents);
}

// New latents in place of the old ones, as generate() has them.
Variable TextWriter::renew(Text& text) {
  AugmentedModel& model = *model_.augmented();
  TextWithoutLatents& plain = text.without_latents;
  const int64_t made = text.renew_at - model_.latents_late();
  plain.read(model, between(text.tokens, plain.length(), made));
  text.seen = text.renew_at;
  text.renew_at += model_.latents_every();
  return plain.continued(model, made < text.seen ? between(text.tokens, made, text.seen) : Tensor(),
                         plain.latents(model), text.state);
}

void TextWriter::begin(const std::vector<PromptJob>& jobs) {
  const NoGrad no_grad;
  const auto length = [](const PromptJob& job) {
    return int64_t(job.of->request.prompts[size_t(job.prompt)].tokens.size());
  };
  std::vector<PromptJob> together;
  for (const PromptJob& job : jobs) {
    const CompletionRequest& request = job.of->request;
    if (model_.plain_base() && !request.latents && request.max_tokens <= 1 &&
        length(job) <= model_.context())
      together.push_back(job);
    else
      guarded({&job, 1}, [&] { read_alone(job); });
  }
  std::stable_sort(together.begin(), together.end(),
                   [&](const PromptJob& a, const PromptJob& b) { return length(a) > length(b); });
  for (size_t first = 0; first < together.size();) {
    const auto most = size_t(std::max<int64_t>(1, kRowsAtOnce / length(together[first])));
    const auto some = std::span<const PromptJob>(together).subspan(
        first, std::min(most, together.size() - first));
    guarded(some, [&] { read_together(some); });
    first += some.size();
  }
}

// The first job's prompt is the longest.
void TextWriter::read_together(std::span<const PromptJob> jobs) {
  std::vector<Text> texts;
  for (const PromptJob& job : jobs) texts.push_back(text_for(job));
  const size_t longest = texts[0].tokens.size();
  std::vector<int32_t> padded;
  for (const Text& text : texts) {
    padded.insert(padded.end(), text.tokens.begin(), text.tokens.end());
    padded.resize(padded.size() + longest - text.tokens.size(), 0);
  }
  const Variable hidden = model_.base().hidden(
      Tensor::from<int32_t>({int64_t(texts.size()), int64_t(longest)}, padded), nullptr);
  for (size_t i = 0; i < texts.size(); ++i) {
    const int64_t own = int64_t(texts[i].tokens.size());
    const Variable rows = slice(slice(hidden, 0, int64_t(i), int64_t(i) + 1), 1, 0, own);
    start(std::move(texts[i]), rows);
  }
}

void TextWriter::read_alone(const PromptJob& job) {
  Text text = text_for(job);
  const Variable rows = read_rest(text);
  start(std::move(text), rows);
}

// The prompt was read: `rows` [1, T, C]. Its texts begin.
void TextWriter::start(Text text, const Variable& rows) {
  const CompletionRequest& request = text.of->request;
  std::vector<TokenScore> prompt_scores;
  const int64_t time = rows.size(1);
  if (request.scores_prompt() && time > 1) {
    prompt_scores = token_scores(model_.base(), slice(rows, 1, 0, time - 1),
                                 std::span(text.tokens).subspan(1), *request.likeliest);
    require_finite_scores(prompt_scores);
  }
  text.last = last_row(rows);
  for (int64_t i = 0; i < request.samples; ++i) {
    Text one = text;
    one.number += i;
    one.draws = Draws(request.seed + uint64_t(i));
    Piece first{.text_number = one.number, .prompt_scores = prompt_scores};
    if (request.max_tokens == 0) first.finish = "length";
    if (request.max_tokens == 0 || !prompt_scores.empty()) one.of->add(std::move(first));
    if (request.max_tokens > 0) texts_.push_back(std::move(one));
  }
}

void TextWriter::step() {
  const NoGrad no_grad;
  drop_finished();
  if (texts_.empty()) return;
  std::vector<PromptJob> all;
  for (const Text& text : texts_) all.push_back({text.of, 0});
  guarded(all, [&] {
    draw();
    drop_finished();
    if (!texts_.empty()) read_drawn();
  });
}

// Requests that are over or late; their texts are gone.
void TextWriter::drop_finished() {
  const auto now = Completion::Clock::now();
  std::erase_if(texts_, [&](Text& text) {
    if (now > text.of->deadline)
      text.of->fail(504, "the request took longer than the server allows (--time-limit)");
    return text.end.ended() || text.of->over();
  });
}

int64_t TextWriter::known_tokens() const {
  return std::min<int64_t>(model_.tokenizer().vocabulary_size(), model_.base().vocabulary_size());
}

void TextWriter::draw() {
  std::vector<Variable> last;
  for (const Text& text : texts_) last.push_back(text.last);
  const Tensor logits = model_.base().logits_of(concat(last, 0)).tensor().to(Device{}).contiguous();
  const int64_t vocabulary = logits.size(-1);
  const auto each = [&]<class T>(const T* data) {
    const T* next = data;
    for (Text& text : texts_) {
      const CompletionRequest& request = text.of->request;
      const std::span<const T> row(next, size_t(vocabulary));
      next += vocabulary;
      const int32_t token =
          choose_token(row.first(size_t(known_tokens())), request.choice, text.draws, text.tokens);
      if (token == kNoToken) {
        text.of->fail(500, "the logits are not finite: the model's weights are broken");
        continue;
      }
      std::vector<TokenScore> scores;
      if (request.likeliest) scores.push_back(token_score(row, token, *request.likeliest));
      text.of->add(piece_of(text, token, std::move(scores)));
    }
  };
  if (logits.dtype() == DType::f64)
    each(logits.data<double>());
  else
    each(logits.data<float>());
}

// Notes the token.
Piece TextWriter::piece_of(Text& text, int32_t token, std::vector<TokenScore> scores) const {
  Piece piece{.text_number = text.number, .tokens = {token}, .scores = std::move(scores)};
  text.tokens.push_back(token);
  piece.text = text.end.add(token);
  piece.finish = text.end.finish();
  return piece;
}

void TextWriter::read_drawn() {
  std::vector<Text*> together;
  std::vector<int32_t> tokens;
  std::vector<SequenceState*> states;
  for (Text& text : texts_) {
    if (text.renew_at == int64_t(text.tokens.size())) {
      text.last = renew(text);
      continue;
    }
    if (!model_.plain_base() || outgrown(text)) {
      text.last = last_row(read_rest(text));
      continue;
    }
    together.push_back(&text);
    tokens.push_back(text.tokens.back());
    states.push_back(&text.state);
  }
  if (together.empty()) return;
  const Variable hidden = read_side_by_side(*model_.plain_base(), tokens, states);
  for (size_t n = 0; n < together.size(); ++n) {
    Text& text = *together[n];
    text.last = slice(hidden, 0, int64_t(n), int64_t(n) + 1);
    text.seen = int64_t(text.tokens.size());
    if (text.insert_at == text.seen) text.last = insert(text);
  }
}

}  // namespace reverie
