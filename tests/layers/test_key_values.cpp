// Keys and values as a value: what is appended, cut off and kept, and where gradients go.

#include "layers/key_values.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "autograd/ops/elementwise.h"
#include "autograd/ops/reduce.h"
#include "core/error.h"
#include "core/files.h"
#include "layers/pretrained/load.h"
#include "layers/row_context.h"
#include "layers/transformer.h"
#include "support/tests_directory.h"

namespace reverie {
namespace {

namespace fs = std::filesystem;

KeyValues drawn(uint64_t seed, int64_t time, bool wants_gradient, std::string base = "") {
  Generator random(seed);
  KeyValues kv;
  kv.base = std::move(base);
  for (int layer = 0; layer < 2; ++layer)
    kv.layers.push_back({Variable(random.normal({2, time, 4}, 0, 1, DType::f64), wants_gradient),
                         Variable(random.normal({2, time, 4}, 0, 1, DType::f64), wants_gradient)});
  return kv;
}
std::vector<double> numbers(const Variable& v) {
  return v.tensor().to_vector();
}

TEST(KeyValues, GradientsGoToAppendedRowsAndNotToFrozenOnes) {
  const KeyValues frozen = drawn(1, 3, false), added = drawn(2, 2, true);
  const KeyValues all = frozen.append(added);
  ASSERT_EQ(all.length(), 5);
  ASSERT_EQ(all.batch(), 2);
  Variable total = sum_all(multiply(all.layers[0].key, all.layers[0].key));
  total = add(total, sum_all(all.layers[1].value));
  backward(total);
  std::vector<double> twice = numbers(added.layers[0].key);
  for (double& x : twice) x *= 2;
  EXPECT_EQ(added.layers[0].key.grad().to_vector(), twice);
  EXPECT_EQ(added.layers[1].value.grad().to_vector(), std::vector<double>(16, 1.0));
  EXPECT_FALSE(frozen.layers[0].key.grad().defined());
  EXPECT_FALSE(all.detach().layers[0].key.requires_grad());
}

TEST(KeyValues, SlicesAndAppendsAreValues) {
  const KeyValues first = drawn(1, 3, false), second = drawn(2, 2, false);
  const KeyValues all = first.append(second);
  for (int layer = 0; layer < 2; ++layer) {
    EXPECT_EQ(numbers(all.slice(0, 3).layers[layer].key), numbers(first.layers[layer].key));
    EXPECT_EQ(numbers(all.slice(3, 5).layers[layer].value), numbers(second.layers[layer].value));
  }
  EXPECT_EQ(first.length(), 3);
  EXPECT_EQ(KeyValues().append(first).length(), 3);
}

TEST(KeyValues, OtherBasesAndShapesAreRefused) {
  EXPECT_THROW(drawn(1, 3, false, "a").append(drawn(1, 3, false, "b")), UserError);
  EXPECT_EQ(drawn(1, 3, false, "a").append(drawn(1, 3, false)).base, "a");
  KeyValues fewer = drawn(1, 3, false);
  fewer.layers.pop_back();
  EXPECT_THROW(drawn(1, 3, false).append(fewer), UserError);
}

TEST(KeyValues, FilesKeepTheBitsAndTheBase) {
  const std::string file = (fs::temp_directory_path() / "reverie-key-values.safetensors").string();
  const KeyValues kept = drawn(4, 3, false, "0123");
  kept.save(file);
  const KeyValues back = KeyValues::load(file, "0123");
  for (int layer = 0; layer < 2; ++layer) {
    EXPECT_EQ(numbers(back.layers[layer].key), numbers(kept.layers[layer].key));
    EXPECT_EQ(numbers(back.layers[layer].value), numbers(kept.layers[layer].value));
  }
  EXPECT_EQ(KeyValues::load(file).base, "0123");
  EXPECT_THROW(KeyValues::load(file, "4567"), UserError) << "another base made them";
  write_safetensors(file, {{"weight", Tensor::zeros({2}, DType::f32)}});
  EXPECT_THROW(KeyValues::load(file), DataError);
  fs::remove(file);
}

// A text in two parts, the second from the first's keys and values, is the text in one.
TEST(KeyValues, ATextGoesOnFromThem) {
  const auto loaded = load_pretrained(testing::test_directory() + "/golden/pretrained/gemma3",
                                      {.dtype = DType::f64, .block_size = {}});
  const auto& model = dynamic_cast<const Transformer&>(*loaded.model);
  Tensor tokens = Tensor::empty({2, 20}, DType::i32);
  for (int64_t i = 0; i < 40; ++i) tokens.mutable_data<int32_t>()[i] = int32_t((i * i + 5) % 61);
  const auto rows = [&](int64_t begin, int64_t end) {
    return model.token_rows(tokens.slice(1, begin, end).contiguous());
  };
  NoGrad no_grad;
  KeyValues kept;
  CausalContext causal(12);
  RecordingContext first(causal, kept);
  model.blocks().forward(rows(0, 12), first);
  PrefixContext second(kept, 8);
  const auto parts = numbers(model.blocks().forward(rows(12, 20), second));
  CausalContext plain(20);
  const Tensor whole =
      model.blocks().forward(rows(0, 20), plain).tensor().slice(1, 12, 20).contiguous();
  const auto wanted = whole.to_vector();
  for (size_t i = 0; i < wanted.size(); ++i) EXPECT_NEAR(parts[i], wanted[i], 1e-12);
}

TEST(WeightsHash, ChangesWithAnyWeight) {
  const auto loaded = load_pretrained(testing::test_directory() + "/golden/pretrained/gpt2");
  const std::string before = loaded.model->weights_hash();
  EXPECT_EQ(
      load_pretrained(testing::test_directory() + "/golden/pretrained/gpt2").model->weights_hash(),
      before);
  Tensor weight = loaded.model->parameters().back().second.tensor();
  weight.mutable_data<float>()[0] += 1e-6f;
  EXPECT_NE(loaded.model->weights_hash(), before);
}

}  // namespace
}  // namespace reverie
