#pragma once
/// The marks of examples as special tokens of a published vocabulary.

#include <array>
#include <memory>
#include <optional>
#include <string_view>

#include "datasets/examples.h"

namespace reverie {

/// How the marks are written, in the order of ExampleLayout. Those of thoughts are named as in
/// Coconut's own code (facebookresearch/coconut).
inline constexpr std::array<std::string_view, ExampleLayout::kMarks> kMarkTexts = {
    "<|start-latent|>", "<|end-latent|>", "<|answer|>", "<|end-answer|>", "<|latent|>"};

/// The tokenizer with the marks behind its tokens; itself where it has them already. UserError
/// where it cannot have them: see with_special_tokens(), and a vocabulary that has some of them, or
/// all in another order.
std::shared_ptr<const Tokenizer> with_marks(std::shared_ptr<const Tokenizer> tokenizer);
/// The id of the first mark where the vocabulary has all of them, one after another; else nullopt.
std::optional<int32_t> first_mark_in(const Tokenizer& tokenizer);
/// How many ids marks take behind the tokenizer's own: none where they are tokens of it.
int32_t marks_behind(const Tokenizer& tokenizer);

}  // namespace reverie
