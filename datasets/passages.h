#pragma once
/// Passages: stretches of a token file that are read in consecutive windows, from a clean state on.

#include <optional>
#include <vector>

#include "datasets/documents.h"
#include "datasets/sampler.h"
#include "datasets/token_file.h"

namespace reverie {

/// A row of a batch: the first `targets` tokens from `start` on have a target, the token after each.
/// Behind them the last token is repeated, without targets.
struct PassageRow {
  int64_t start = 0, targets = 0;
};
/// Rows of block_size, of whose targets the rule keeps some.
Batch read_rows(const TokenFile& tokens, const std::vector<PassageRow>& rows, int64_t block_size,
                const TargetRule& rule = {});

struct Passage {
  int64_t begin = 0, end = 0;  ///< tokens [begin, end), of which all but the first are predicted
  int64_t predictions() const { return end - begin - 1; }
  /// Windows of `block_size` predictions; the last may be shorter.
  int64_t windows(int64_t block_size) const {
    return (predictions() + block_size - 1) / block_size;
  }
  /// Window `window` as a row of a batch; behind the passage's end, a row without targets.
  PassageRow row(int64_t window, int64_t block_size) const;
};

/// The documents of a token file that have two tokens or more, in order; without a mark, the whole
/// file. Reads the file to find them.
std::vector<Passage> documents_in(const TokenFile& tokens, const std::optional<DocumentMark>& mark);

/// Passages of more than `most` windows are cut: what follows is a passage of its own.
std::vector<Passage> cut_passages(const std::vector<Passage>& passages, int64_t block_size,
                                  int64_t most);

/// Texts in consecutive windows, several side by side: what a model that carries state is evaluated
/// on. Each text is read from its beginning.
class ConsecutiveWindows {
 public:
  /// Documents where there is a mark; else the text cut into pieces, about as many as each has
  /// windows. `window_count` 0: all of them, whole. Otherwise about so many windows: of texts evenly
  /// spaced over the file, the first sqrt(window_count) windows, at least 2. UserError where no text
  /// has a token to predict.
  ConsecutiveWindows(TokenFile tokens, const std::optional<DocumentMark>& mark, int64_t batch_size,
                     int64_t block_size, int64_t window_count, TargetRule rule = {});
  int64_t block_size() const { return block_size_; }
  int64_t text_count() const { return int64_t(texts_.size()); }
  int64_t window_count() const;
  /// Whether texts are documents, not pieces of one.
  bool documents() const { return documents_; }
  /// Texts are read batch_size at a time, those of most windows first.
  int64_t group_count() const { return (text_count() + batch_size_ - 1) / batch_size_; }
  int64_t first_text(int64_t group) const { return group * batch_size_; }
  /// Windows of the group's longest text.
  int64_t windows_in(int64_t group) const;
  /// The texts of the group that have a window `window` are its first so many.
  int64_t rows_at(int64_t group, int64_t window) const;
  /// Their windows, row by row; a text's last one may end in rows without targets.
  Batch batch(int64_t group, int64_t window) const;

 private:
  TokenFile tokens_;
  TargetRule rule_;
  int64_t batch_size_, block_size_;
  bool documents_;
  std::vector<Passage> texts_;  ///< by falling number of windows
};

}  // namespace reverie
