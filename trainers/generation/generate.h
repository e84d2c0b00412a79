#pragma once
/// Text from a language model.

#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "layers/language_model.h"
#include "trainers/generation/latent_supplier.h"
#include "trainers/generation/token_choice.h"

namespace reverie {

struct GenerateOptions {
  int64_t max_tokens = 200;
  double temperature = 1;  ///< divides the logits; 0: always the likeliest token
  int64_t top_k = 0;       ///< draw among the k likeliest alone; 0: among all
  double top_p = 1, min_p = 0, repetition_penalty = 1;  ///< see TokenChoice
  uint64_t seed = 1;                                    ///< of the draws
  /// Draw among the first so many tokens, where a model has more rows than its tokenizer has tokens;
  /// 0: among all.
  int64_t vocabulary = 0;
  /// An AugmentedModel's latents, made at the prompt's end and put into the text so many tokens
  /// later; not set: none.
  std::optional<int64_t> latents_late = {};
  /// With latents_late: they are made anew after every so many tokens (LatentRenewal); 0: once.
  int64_t latents_every = 0;
  /// Latents of other coprocessors beside the same base, each for this text alone; they need not come
  /// at the same time. Instead of latents_late.
  std::vector<std::shared_ptr<LatentSupplier>> latents = {};
  std::vector<int32_t> ends = {};  ///< each ends the text when it comes, and is not part of it

  TokenChoice choice() const { return {temperature, top_k, top_p, min_p, repetition_penalty}; }
};

/// The tokens that follow `prompt` (without it); on_token (may be empty) is called with each as it
/// comes. Eval mode, restored afterwards.
///
/// A model that can goes on from a KV cache; another reads its whole context for every token. Both
/// see the same context: when it fills the block, it begins anew with its last half, so that a cache
/// is refilled every block_size / 2 tokens and not for each one. A prompt longer than a block begins
/// with its last block. A model that carries memory reads and writes in consecutive windows instead,
/// as it was trained: each begins where the last one ended, with the memory carried from there.
///
/// With `latents_late` or `latents` a source of latents reads the prompt's cache once, when the prompt
/// has been read. From the token on behind which they go in, its latents take room in the context;
/// they are gone when that begins anew. Until then, and where they never come, the text is the
/// base's own. Latents that come together go in in the order of `latents`, those that are put into
/// the cache first.
///
/// Latents that are made anew (LatentRenewal) are those that generate() would make behind a prompt of
/// the context so far: the old ones leave the cache, and the tokens behind them are read again. When
/// the context is full, its last half is kept for them.
///
/// UserError for an empty prompt, latents of a model that makes none, several latents of which one
/// hides the text, a token outside the vocabulary, or options out of range; DivergedError where logits are not finite.
std::vector<int32_t> generate(LanguageModel& model, std::vector<int32_t> prompt,
                              const GenerateOptions& options,
                              const std::function<void(int32_t)>& on_token = {});

/// Several texts after one prompt, written side by side: the weights are read once for all of them.
/// Text i is drawn as generate() would with seed + i (but for rounding, which may differ with the
/// number of texts). on_token (may be empty) is called with the number of the text and its token;
/// one that has ended is called no more. UserError for samples < 1, and as above.
std::vector<std::vector<int32_t>> generate_samples(
    LanguageModel& model, const std::vector<int32_t>& prompt, int64_t samples,
    const GenerateOptions& options, const std::function<void(int64_t, int32_t)>& on_token = {});

}  // namespace reverie
