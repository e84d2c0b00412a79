#pragma once
/// The answer to a completion request as JSON, whole or piece by piece.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

#include "trainers/serving/completion.h"
#include "trainers/serving/served_model.h"

namespace reverie {

/// The field beside every figure: {"label": "LEAKS" or "", "verdict": one line, "latents": rows}.
Json verdict_beside(const ServedName& name, const ServedModel& model);

/// A token as text. One that is no whole character is written as its bytes: "bytes:\xe2\x80".
std::string token_text(const std::string& bytes);

class CompletionAnswer {
 public:
  CompletionAnswer(const CompletionRequest& request, const ServedModel& model);

  void add(const Piece& piece);
  /// After all pieces.
  Json whole() const;
  /// One piece as an object of a stream.
  Json chunk(const Piece& piece);

 private:
  struct Choice {
    std::string text, finish;
    Json logprobs;           ///< null where none are wanted
    int64_t characters = 0;  ///< of the text, in front of the next token
    bool begun = false;      ///< the prompt stands in it, where it is wanted
  };
  /// The piece's part of the answer; `choice` knows how far its text is.
  Json part(const Piece& piece, Choice& choice) const;
  void put_prompt(const Piece& piece, Choice& choice, Json& logprobs) const;
  Json frame() const;

  const CompletionRequest& request_;
  const ServedModel& model_;
  std::string id_;
  int64_t created_, drawn_ = 0;
  std::vector<Choice> choices_;
};

}  // namespace reverie
