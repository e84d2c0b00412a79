#pragma once
/// The weights of a checkpoint: those that a run trains. A frozen base is named by path and hash.

#include <optional>
#include <string>

#include "layers/frozen_base.h"
#include "layers/language_model.h"
#include "trainers/runs/checkpoint.h"

namespace reverie {

/// Key of a checkpoint's state that names the frozen base: {"path", "weights_hash", "model", "tensors" (of the
/// base that the checkpoint leaves out)}. Checkpoints without it hold every weight of the model.
inline constexpr const char* kBaseKey = "base";

/// What files say of a base that they leave out: {"path", "weights_hash", "model"}.
Json record_of(const FrozenBase& base);
/// DataError, with `advice` at its end, unless the base is the one of the record: its weights, and what
/// its files make of them. `of`: whose record it is.
void require_recorded(const FrozenBase& base, const Json& record, const std::string& of,
                      const std::string& advice = "");

/// Fills in `model`, and names the base in state and metadata. InternalError where the base's weights
/// have changed since it was opened.
void save_weights(LanguageModel& model, CheckpointContents& to);

/// Gives the model the weights of a checkpoint; the base stays as it was opened. DataError where the
/// base is another than the checkpoint names. A checkpoint that holds the base's weights (as earlier
/// versions wrote it) gives them, too, with a warning where the files have others.
void load_weights(LanguageModel& model, const StoredCheckpoint& from);

/// What the newest checkpoint of a run says of the base, before anything of it is verified; null where
/// it says nothing that can be read. For messages and early refusals.
Json newest_base_record(const std::string& run_directory);

/// The base that this model trains, with the weights that it has now; nullopt where it has none, or
/// a frozen one. `component`: the model's config.
std::optional<FrozenBase> trained_base(LanguageModel& model, const Component& component);
/// Keeps in the run directory with which weights of such a base the run begins: {"path",
/// "weights_hash"}. Its checkpoints hold those that became of them.
void keep_initial_base(LanguageModel& model, const Component& component,
                       const std::string& run_directory);
/// The record that keep_initial_base() wrote; null for runs of earlier versions and other models.
Json initial_base_record(const std::string& run_directory);

/// DataError unless the model's base is the one that this state of a checkpoint names, or it names
/// none.
void require_recorded_base(LanguageModel& model, const Json& state, const std::string& checkpoint);

}  // namespace reverie
