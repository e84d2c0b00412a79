#pragma once
/// Options of a model's config that others read or fill in, whatever the model's type. They are
/// found among the fields that the options describe (Fieldset::fields()), so that a plug-in's model
/// offers them by describing such fields, and has none of those that it leaves out:
///   vocab_size  an integer, or "auto"; 0: as many tokens as the data have
///   block_size  an integer, or "auto": longest sequence, in tokens
///   base, path  a path: where a model lies that this one is built of
///   memory      a component of MemoryRegistry, which may be null
///   new_tokens  an integer: so many of vocab_size are new to the model that it begins with
///   copied_token  an integer, or "auto": their rows begin as this token's
///   rematerialize  true: backward computes activations again instead of keeping them

#include <optional>
#include <string>

#include "core/config.h"

namespace reverie {

/// nullopt where the model has no such option.
std::optional<int64_t> configured_vocabulary(const Component& model);
/// nullopt where the model has no such option, or it is "auto".
std::optional<int64_t> configured_block_size(const Component& model);
/// Not given() where the model has no such option, or it is null.
Component configured_memory(const Component& model);
/// False where the model has no such option.
bool configured_rematerialize(const Component& model);

/// Whether the model's vocabulary is to be the data's (vocab_size 0).
bool takes_vocabulary_of_data(const Component& model);
/// The model with so many tokens where it takes the data's vocabulary, or else as it is.
Component with_vocabulary_of_data(const Component& model, int64_t tokens);
/// The same where no data are at hand: a few tokens, and of a model with new ones no more than it
/// takes to have these, since its base may be small.
Component with_vocabulary_without_data(const Component& model);
/// nullopt where the model has no such option, or it is empty.
std::optional<std::string> configured_base(const Component& model);
/// The model with its base in another place; InternalError where it has no such option.
Component with_base(const Component& model, const std::string& path);
/// The model with another memory module; InternalError where it has no such option.
Component with_memory(const Component& model, const Component& memory);

}  // namespace reverie
