// Documents and texts in consecutive windows, and the sampler that reads them side by side.

#include <algorithm>
#include <map>
#include <set>

#include "datasets/data_support.h"
#include "datasets/document_sampler.h"

namespace reverie {
namespace {

using testing::TemporaryDirectory;

constexpr int32_t kMark = 0;

// Documents of these many tokens; token values count up from 1 over the file, so that a token says
// where it stands, and the mark (0) begins or ends each.
TokenFile marked_tokens(const TemporaryDirectory& directory, const std::vector<int64_t>& lengths,
                        bool begins) {
  std::vector<int32_t> tokens;
  for (const int64_t length : lengths)
    for (int64_t i = 0; i < length; ++i)
      tokens.push_back(i == (begins ? 0 : length - 1) ? kMark : int32_t(tokens.size()) + 1);
  const std::string file = directory / "marked.tok";
  TokenFileWriter writer(file, int32_t(tokens.size()) + 2, "", "");
  writer.append(tokens);
  writer.finish();
  return open_tokens(file);
}

std::vector<std::pair<int64_t, int64_t>> ranges(const std::vector<Passage>& passages) {
  std::vector<std::pair<int64_t, int64_t>> out;
  for (const Passage& p : passages) out.emplace_back(p.begin, p.end);
  return out;
}

TEST(Documents, BeginAndEndAtTheirMarks) {
  const TemporaryDirectory directory;
  using Ranges = std::vector<std::pair<int64_t, int64_t>>;
  const TokenFile begun = marked_tokens(directory, {5, 3, 1, 7}, true);
  // A document of one token has nothing to predict.
  EXPECT_EQ(ranges(documents_in(begun, DocumentMark{kMark, true})),
            (Ranges{{0, 5}, {5, 8}, {9, 16}}));
  EXPECT_EQ(ranges(documents_in(begun, std::nullopt)), (Ranges{{0, 16}}));
  const TokenFile ended = marked_tokens(directory, {5, 3, 1, 7}, false);
  EXPECT_EQ(ranges(documents_in(ended, DocumentMark{kMark, false})),
            (Ranges{{0, 5}, {5, 8}, {9, 16}}));
}

TEST(Passages, AreCutAfterSoManyWindowsAndLoseNoPrediction) {
  const auto pieces = cut_passages({{10, 31}, {31, 34}}, 4, 2);  // 20 predictions, 8 a piece
  using Ranges = std::vector<std::pair<int64_t, int64_t>>;
  EXPECT_EQ(ranges(pieces), (Ranges{{10, 19}, {18, 27}, {26, 31}, {31, 34}}));
  int64_t predictions = 0;
  for (const Passage& p : pieces) predictions += p.predictions();
  EXPECT_EQ(predictions, 22);
}

class DocumentSamplerTest : public ::testing::Test {
 protected:
  const std::vector<int64_t> lengths_{9, 17, 3, 12, 25, 9, 9, 17, 5, 33, 8, 21, 9};
  TemporaryDirectory directory_;
  TokenFile tokens_ = marked_tokens(directory_, lengths_, true);
  const DocumentMark mark_{kMark, true};
};

// Each row reads its document from the first token to the last, window by window, and nothing of
// another; all rows begin together.
TEST_F(DocumentSamplerTest, RowsReadWholeDocumentsInConsecutiveWindows) {
  const DocumentSampler sampler(tokens_, mark_, 3, 4, 7);
  std::set<int64_t> begun;
  std::vector<int64_t> next(3);
  for (int64_t i = 0; i < sampler.batches_per_pass(); ++i) {
    const Batch batch = sampler.batch(i);
    int64_t targets = 0;
    for (int64_t r = 0; r < 3; ++r) {
      const Passage& p = sampler.passage(i, r);
      if (sampler.begins_texts(i)) {
        next[size_t(r)] = p.begin;
        begun.insert(p.begin);
      }
      for (int64_t t = 0; t < 4; ++t) {
        const int32_t token = batch.tokens.data<int32_t>()[r * 4 + t],
                      target = batch.targets.data<int32_t>()[r * 4 + t];
        const int64_t at = next[size_t(r)];
        if (at + 1 < p.end) {
          EXPECT_EQ(token, tokens_[at]);
          EXPECT_EQ(target, tokens_[at + 1]);
          ++next[size_t(r)];
          ++targets;
        } else {
          EXPECT_EQ(target, kIgnoredTarget) << "batch " << i << " row " << r;
        }
      }
    }
    EXPECT_EQ(batch.target_count, targets);
    EXPECT_EQ(sampler.target_count(i), targets);
    const bool ends = i + 1 == sampler.batches_per_pass() || sampler.begins_texts(i + 1);
    for (int64_t r = 0; r < 3 && ends; ++r)
      EXPECT_EQ(next[size_t(r)], sampler.passage(i, r).end - 1) << "batch " << i << " row " << r;
  }
  EXPECT_TRUE(sampler.begins_texts(0));
  EXPECT_TRUE(sampler.begins_texts(sampler.batches_per_pass()));
  EXPECT_EQ(begun.size(), lengths_.size());  // none is longer than a lane here
}

TEST_F(DocumentSamplerTest, ABatchIsAFunctionOfSeedAndIndexAndSplitsByRows) {
  DocumentSampler first(tokens_, mark_, 3, 4, 7), again(tokens_, mark_, 3, 4, 7),
      other(tokens_, mark_, 3, 4, 8);
  bool differs = false;
  for (int64_t i = 0; i < 2 * first.batches_per_pass(); ++i) {
    const Batch whole = first.batch(i);
    EXPECT_TRUE(bit_identical(whole.tokens, again.batch(i).tokens));
    EXPECT_TRUE(bit_identical(whole.tokens, first.batch(i + first.batches_per_pass()).tokens));
    differs = differs || !bit_identical(whole.tokens, other.batch(i).tokens);
    for (int64_t r = 0; r < 3; ++r)
      EXPECT_TRUE(
          bit_identical(first.rows(i, r, 1).tokens, whole.tokens.slice(0, r, r + 1).contiguous()));
  }
  EXPECT_TRUE(differs);
}

// Documents that are read together are of like length: rows wait little.
TEST_F(DocumentSamplerTest, FewRowsHaveNothingToLearn) {
  const DocumentSampler sampler(tokens_, mark_, 3, 4, 7);
  int64_t idle = 0, rows = 0;
  for (int64_t i = 0; i < sampler.batches_per_pass(); ++i)
    for (int64_t r = 0; r < 3; ++r, ++rows) idle += sampler.window_targets(i, r) == 0;
  EXPECT_LT(double(idle), 0.25 * double(rows));
}

TEST_F(DocumentSamplerTest, ALongDocumentAmongShortOnesIsCutIntoLanes) {
  const TokenFile tokens = marked_tokens(directory_, {401, 5, 5, 9}, true);
  const DocumentSampler sampler(tokens, mark_, 4, 4, 7);  // 104 windows: 26 a lane
  EXPECT_LE(sampler.batches_per_pass(), 60);
  std::vector<int> seen(420, 0);
  for (int64_t i = 0; i < sampler.batches_per_pass(); ++i)
    for (int64_t r = 0; r < 4; ++r)
      for (int64_t t = 0; t < sampler.window_targets(i, r); ++t)
        ++seen[size_t(sampler.window_start(i, r) + t)];
  for (int64_t at = 0; at < 400; ++at) EXPECT_GE(seen[size_t(at)], 1) << at;
}

TEST_F(DocumentSamplerTest, FewerWindowsThanRowsSayBothNumbers) {
  EXPECT_THROWS_SAYING(DocumentSampler(tokens_, mark_, 64, 16, 0), UserError, "13 documents");
  EXPECT_THROWS_SAYING(DocumentSampler(tokens_, mark_, 64, 16, 0), UserError, "batch_size 64");
}

TEST(ConsecutiveWindows, ReadDocumentsFromTheirFirstTokenToTheirLast) {
  const TemporaryDirectory directory;
  const TokenFile tokens = marked_tokens(directory, {9, 17, 2, 30, 12}, true);
  const ConsecutiveWindows windows(tokens, DocumentMark{kMark, true}, 2, 4, 0);
  EXPECT_TRUE(windows.documents());
  EXPECT_EQ(windows.text_count(), 5);
  EXPECT_EQ(windows.group_count(), 3);
  EXPECT_EQ(windows.window_count(), 2 + 4 + 1 + 8 + 3);
  int64_t targets = 0;
  std::map<std::pair<int64_t, int64_t>, int32_t> last;  // of a text: the token that comes next
  for (int64_t g = 0; g < windows.group_count(); ++g)
    for (int64_t w = 0; w < windows.windows_in(g); ++w) {
      const Batch batch = windows.batch(g, w);
      ASSERT_EQ(batch.tokens.size(0), windows.rows_at(g, w));
      targets += batch.target_count;
      for (int64_t r = 0; r < batch.tokens.size(0); ++r) {
        const int32_t first = batch.tokens.data<int32_t>()[r * 4];
        if (w == 0) {
          EXPECT_EQ(first, kMark);
        } else {
          EXPECT_EQ(first, (last[{g, r}]));
        }
        last[{g, r}] = batch.targets.data<int32_t>()[r * 4 + 3];
      }
    }
  EXPECT_EQ(targets, 9 + 17 + 2 + 30 + 12 - 5);
}

TEST(ConsecutiveWindows, OfOneTextAreAboutAsManyPiecesAsEachHasWindows) {
  const TemporaryDirectory directory;
  const TokenFile tokens = marked_tokens(directory, {1001}, true);
  const ConsecutiveWindows all(tokens, std::nullopt, 4, 4, 0);  // 250 windows
  EXPECT_FALSE(all.documents());
  EXPECT_EQ(all.window_count(), 250);
  EXPECT_EQ(all.windows_in(0), 15);
  EXPECT_EQ(all.text_count(), 17);
  const ConsecutiveWindows some(tokens, std::nullopt, 4, 4, 36);
  EXPECT_EQ(some.windows_in(0), 6);
  EXPECT_LE(some.window_count(), 36);
  EXPECT_GE(some.window_count(), 30);
  EXPECT_THROWS_SAYING(ConsecutiveWindows(tokens, std::nullopt, 4, 4, -1), UserError, "-1");
}

}  // namespace
}  // namespace reverie
