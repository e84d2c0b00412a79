#pragma once
/// The texts that are being written: the model's side of the server, without queue or network.

#include <cstdint>
#include <list>
#include <memory>
#include <span>
#include <vector>

#include "datasets/tokenizers/tokenizer.h"
#include "layers/sequence_state.h"
#include "trainers/serving/completion.h"
#include "trainers/serving/served_model.h"
#include "trainers/serving/stop_strings.h"

namespace reverie {

/// One prompt of a request.
struct PromptJob {
  std::shared_ptr<Completion> of;
  int64_t prompt = 0;
};

/// All of it on one thread. An error of the model ends the requests that it met (500), never the
/// server.
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
    int64_t written = 0;
    SequenceState state = {};
    Variable last = {};  ///< final hidden states [1, 1, C], which predict the next token
    /// Tokens behind which latents are made and put in; -1: none.
    int64_t make_at = -1, insert_at = -1;
    Variable latents = {};
    Draws draws{0};
    StreamDecoder decoder;
    StopStrings stops;
  };

  Text text_for(const PromptJob& job) const;
  Variable read(Text& text, int64_t begin, int64_t end);
  Variable insert(Text& text);
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
