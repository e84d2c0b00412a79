#pragma once
/// The texts that are being written: the model's side of the server, without queue or network.

#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <vector>

#include "layers/sequence_state.h"
#include "trainers/generation/ending_text.h"
#include "trainers/generation/text_without_latents.h"
#include "trainers/serving/completion.h"
#include "trainers/serving/served_model.h"

namespace reverie {

/// One prompt of a request.
struct PromptJob {
  std::shared_ptr<Completion> of;
  int64_t prompt = 0;
};

/// All of it on one thread. An error of the model ends the requests that it met (500), never the
/// server. A text without latents that outgrows the model's context goes on as generate() has it; the
/// server refuses such requests, `reverie sample` does not.
class TextWriter {
 public:
  explicit TextWriter(ServedModel& model) : model_(model) {}

  /// Reads prompts and scores those that want it. Prompts behind which one token or none is wanted
  /// stand side by side in one forward, padded on the right, which no row of a causal transformer
  /// sees; others are read one after another.
  void begin(const std::vector<PromptJob>& jobs);
  /// Draws a token for every text and reads it, all of them in one forward where the base allows.
  void step();
  int64_t texts() const { return int64_t(texts_.size()); }

 private:
  struct Text {
    std::shared_ptr<Completion> of = {};
    int64_t number = 0;                ///< among the request's texts
    std::vector<int32_t> tokens = {};  ///< the prompt's and those written
    int64_t begin = 0;                 ///< first token of the context
    int64_t seen = 0;                  ///< tokens before this one were read
    SequenceState state = {};
    Variable last = {};  ///< final hidden states [1, 1, C], which predict the next token
    /// Tokens behind which latents are made and put in; -1: none, or done.
    int64_t make_at = -1, insert_at = -1;
    Variable latents = {};
    /// Where latents are made anew: behind how many tokens new ones go in next (-1: never), and the
    /// text as it was when they were made last.
    int64_t renew_at = -1;
    TextWithoutLatents without_latents = {};
    Draws draws{0};
    EndingText end;
  };

  Text text_for(const PromptJob& job) const;
  bool outgrown(const Text& text) const;
  void make_room(Text& text);
  Variable read_rest(Text& text);
  Variable read(Text& text, int64_t begin, int64_t end);
  Variable insert(Text& text);
  Variable renew(Text& text);
  void read_together(std::span<const PromptJob> jobs);
  void read_alone(const PromptJob& job);
  void start(Text text, const Variable& rows);
  void draw();
  Piece piece_of(Text& text, int32_t token, std::vector<TokenScore> scores) const;
  void read_drawn();
  void drop_finished();
  int64_t known_tokens() const;

  ServedModel& model_;
  std::list<Text> texts_;
};

}  // namespace reverie
