#pragma once
/// A request for texts on its way from a connection's thread to the model's, and its pieces back.

#include <atomic>
#include <chrono>
#include <condition_variable>
#include <cstdint>
#include <mutex>
#include <optional>
#include <string>
#include <vector>

#include "trainers/generation/token_choice.h"
#include "trainers/generation/token_scores.h"

namespace reverie {

struct Prompt {
  std::vector<int32_t> tokens;
  std::string text;
  /// Tokens in front that the text does not contain: a begin-of-text token that was put there.
  int64_t added = 0;
  /// Latents are made behind so many tokens.
  int64_t latents_after = 0;
};

struct CompletionRequest {
  std::string model;
  bool latents = false;
  std::vector<Prompt> prompts;
  int64_t samples = 1;  ///< texts behind each prompt; text i is drawn with seed + i
  int64_t max_tokens = 16;
  TokenChoice choice;
  uint64_t seed = 0;
  std::vector<std::string> stops;
  bool echo = false, stream = false;
  bool past_end = false;  ///< tokens that end a text do not
  /// Tokens that end a text besides the model's own.
  std::vector<int32_t> also_ends = {};
  std::optional<int64_t> likeliest;  ///< log-probabilities are wanted, and of so many others

  /// Whether the prompt's own tokens are scored.
  bool scores_prompt() const { return echo && likeliest; }
  /// Texts in all; number p * samples + i is the i-th behind prompt p.
  int64_t texts() const { return int64_t(prompts.size()) * samples; }
};

/// More of one text.
struct Piece {
  int64_t text_number = 0;
  std::string text = {};
  std::vector<int32_t> tokens = {};     ///< drawn, also those that end the text
  std::vector<TokenScore> scores = {};  ///< of these tokens, where they are wanted
  /// Scores of the prompt's tokens but the first; where they are wanted, in the text's first piece.
  std::vector<TokenScore> prompt_scores = {};
  std::string finish = {};  ///< "": it goes on; "stop" or "length"
};

/// Why a request got no (whole) answer, as HTTP says it.
struct Refusal {
  int status = 0;
  std::string message;
};

class Completion {
 public:
  using Clock = std::chrono::steady_clock;
  Completion(CompletionRequest wanted, Clock::time_point until)
      : request(std::move(wanted)), deadline(until), unfinished_(request.texts()) {}

  const CompletionRequest request;
  const Clock::time_point deadline;

  // ---- the model's thread ----
  void add(Piece piece);
  void fail(int status, const std::string& message);
  /// Whether nothing more is wanted: all texts are finished, it failed, or nobody listens.
  bool over() const;

  // ---- the connection's thread ----
  /// Waits for more; nothing: that was all.
  std::vector<Piece> next();
  void abandon() { abandoned_ = true; }
  std::optional<Refusal> refusal() const;

 private:
  mutable std::mutex mutex_;
  std::condition_variable more_;
  std::vector<Piece> pieces_;
  int64_t unfinished_;
  std::optional<Refusal> refusal_;
  std::atomic<bool> abandoned_{false};
};

}  // namespace reverie
