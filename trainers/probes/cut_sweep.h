#pragma once
/// Many cuts in one batch of rows: each row gets other tokens from a cut of its own on, and nothing
/// before the cut may move. A batch of B rows asks B - 1 cuts in one forward; one row stays whole,
/// so that whatever moves in it came from the other rows.

#include <functional>
#include <string>
#include <vector>

#include "core/tensor.h"
#include "trainers/probes/movement.h"

namespace reverie {

/// Cuts by row, for each forward; a cut of T leaves the row whole.
using CutPlan = std::vector<std::vector<int64_t>>;

/// All cuts 1 .. length - 1, B - 1 of them (or the one of a single row) in a forward; where that
/// takes more than `most_forwards` (0: no limit), as many as fit, evenly spread with the last one
/// among them, and at another `turn` at other places. At least two forwards of more than one row, so
/// that every row is cut in one of them.
CutPlan plan_cuts(int64_t rows, int64_t length, int64_t most_forwards, int64_t turn);
/// How many different ones.
int64_t cuts_in(const CutPlan& plan, int64_t length);

/// These rows of tokens i32 [B, T] (CPU), in this order.
Tensor chosen_rows(const Tensor& tokens, const std::vector<int64_t>& rows);

/// tokens i32 [B, T] (CPU) with what stands behind each row's cut taken from a row of `donors` i32
/// [D, T], so that real text is replaced by real text. The first token behind a cut is always
/// another one than before: from a donor, else from anywhere in `donors`, else the next in the
/// vocabulary.
Tensor with_other_suffixes(const Tensor& tokens, const Tensor& donors,
                           const std::vector<int64_t>& cuts, int64_t vocabulary);

/// `tokens` with thoughts (the token `thought`) where `like` has them and nowhere else, both i32
/// [B, T] (CPU): other text that a ThinkingModel reads in passes of the same sizes.
Tensor thinking_where(const Tensor& like, const Tensor& tokens, int32_t thought);

/// Adds to `found` how far rows before their cuts moved. `hidden_of` gives final hidden states
/// [B, T, C] and draws the same dropout every time.
void sweep_cuts(const std::function<Tensor(const Tensor& tokens)>& hidden_of, const Tensor& tokens,
                const Tensor& base, const Tensor& donors, const CutPlan& plan, int64_t vocabulary,
                const std::string& site, HiddenMovement& found);

}  // namespace reverie
