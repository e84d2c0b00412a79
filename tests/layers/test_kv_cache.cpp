// Decoding in pieces with a KV cache equals the forward over the whole.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "core/error.h"
#include "layers/model_checks.h"
#include "support/tiny_models.h"

namespace reverie {
namespace {

using testing::kTinyModels;
using testing::largest_difference;
using testing::make_model;
using testing::NamedModel;
using testing::random_tokens;

SequenceState cached_state() {
  SequenceState state;
  state.use_cache = true;
  return state;
}

// Tensor [rows, length, channels] of numbers that say where they stand.
Tensor numbered(int64_t rows, int64_t begin, int64_t end, int64_t channels, double offset = 0) {
  std::vector<double> values;
  for (int64_t r = 0; r < rows; ++r)
    for (int64_t t = begin; t < end; ++t)
      for (int64_t c = 0; c < channels; ++c)
        values.push_back(offset + double(10000 * r + 10 * t + c));
  return Tensor::from<double>({rows, end - begin, channels}, values);
}

// ---- the cache ----------------------------------------------------------------------------------

TEST(KvCache, HoldsWhatWasAppendedAcrossItsGrowth) {
  KvCache cache;
  int64_t length = 0;
  for (const int64_t piece : {1, 5, 57, 1, 1, 64, 200}) {
    cache.append(numbered(3, length, length + piece, 2),
                 numbered(3, length, length + piece, 2, 0.5));
    length += piece;
    ASSERT_EQ(cache.length(), length);
    EXPECT_EQ(cache.key().to_vector(), numbered(3, 0, length, 2).to_vector());
    EXPECT_EQ(cache.value().to_vector(), numbered(3, 0, length, 2, 0.5).to_vector());
  }
}

TEST(KvCache, CopiesGoOnByThemselves) {
  KvCache first;
  first.append(numbered(2, 0, 3, 2), numbered(2, 0, 3, 2));
  KvCache second = first;
  first.append(numbered(2, 3, 5, 2), numbered(2, 3, 5, 2));
  second.append(numbered(2, 7, 8, 2), numbered(2, 7, 8, 2));
  EXPECT_EQ(first.key().to_vector(), numbered(2, 0, 5, 2).to_vector());
  EXPECT_EQ(second.length(), 4);
  EXPECT_EQ(second.key().slice(1, 3, 4).to_vector(), numbered(2, 7, 8, 2).to_vector());
}

TEST(KvCache, RefusesOtherShapes) {
  KvCache cache;
  EXPECT_THROW(cache.append(numbered(2, 0, 3, 2), numbered(2, 0, 2, 2)), UserError);
  EXPECT_THROW(cache.append(numbered(2, 0, 3, 2).view({6, 2}), numbered(2, 0, 3, 2).view({6, 2})),
               UserError);
  cache.append(numbered(2, 0, 3, 2), numbered(2, 0, 3, 2));
  EXPECT_THROW(cache.append(numbered(1, 3, 4, 2), numbered(1, 3, 4, 2)), UserError);
  EXPECT_THROW(cache.append(numbered(2, 3, 4, 3), numbered(2, 3, 4, 3)), UserError);
  EXPECT_EQ(cache.length(), 3);
}

// ---- models -------------------------------------------------------------------------------------

class Decoding : public ::testing::TestWithParam<NamedModel> {};

TEST_P(Decoding, InPiecesEqualsTheWhole) {
  const auto model = make_model(GetParam().json);
  ASSERT_EQ(model->incremental(), GetParam().causal);
  EXPECT_EQ(testing::decoding_error(*model), "");
}
INSTANTIATE_TEST_SUITE_P(All, Decoding, ::testing::ValuesIn(kTinyModels),
                         [](const auto& info) { return std::string(info.param.name); });

TEST(Decoding, InF32EqualsTheWholeToRounding) {
  const auto model = make_model(kTinyModels[2].json, DType::f32);
  model->train(false);
  NoGrad guard;
  const Tensor tokens = random_tokens(2, 12, 13);
  SequenceState state = cached_state();
  const Tensor first = model->logits(tokens.slice(1, 0, 5).contiguous(), &state).tensor();
  const Tensor second = model->logits(tokens.slice(1, 5, 12).contiguous(), &state).tensor();
  const Tensor whole = model->logits(tokens).tensor();
  EXPECT_LT(largest_difference(first, whole.slice(1, 0, 5)), 1e-5);
  EXPECT_LT(largest_difference(second, whole.slice(1, 5, 12)), 1e-5);
}

// One prefix, two continuations: what beam search and the causality probe do.
TEST(Decoding, ACopiedStateBranches) {
  for (const NamedModel& m : kTinyModels) {
    if (!m.causal) continue;
    const auto model = make_model(m.json);
    model->train(false);
    NoGrad guard;
    const Tensor tokens = random_tokens(2, 13, 13, 3), other = random_tokens(2, 13, 13, 4);
    SequenceState trunk = cached_state();
    model->hidden(tokens.slice(1, 0, 6).contiguous(), &trunk);
    SequenceState branch = trunk;
    model->hidden(other.slice(1, 0, 4).contiguous(), &branch);
    const Tensor rest = model->logits(tokens.slice(1, 6, 13).contiguous(), &trunk).tensor();
    model->hidden(other.slice(1, 4, 7).contiguous(), &branch);
    EXPECT_LT(largest_difference(rest, model->logits(tokens).tensor().slice(1, 6, 13)), 1e-10)
        << m.name;
  }
}

TEST(Decoding, RefusesToGoBeyondTheBlock) {
  const auto model = make_model(kTinyModels[0].json);
  NoGrad guard;
  SequenceState state = cached_state();
  model->hidden(random_tokens(1, 15, 13), &state);
  EXPECT_THROW(
      {
        try {
          model->hidden(random_tokens(1, 5, 13), &state);
        } catch (const UserError& e) {
          EXPECT_THAT(e.what(), ::testing::HasSubstr("20 tokens"));
          EXPECT_THAT(e.what(), ::testing::HasSubstr("block_size is 19"));
          throw;
        }
      },
      UserError);
}

TEST(Decoding, RefusesToRecord) {
  const auto model = make_model(kTinyModels[0].json);
  SequenceState state = cached_state();
  EXPECT_THROW(model->hidden(random_tokens(1, 3, 13), &state), UserError);
}

}  // namespace
}  // namespace reverie
