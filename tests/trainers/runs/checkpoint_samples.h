#pragma once
// Checkpoints whose contents follow from a step and a round, so that what is found can be judged.

#include <gtest/gtest.h>

#include <filesystem>
#include <string>
#include <vector>

#include "trainers/runs/checkpoint.h"

namespace reverie::testing {

template <class T>
Tensor numbered_tensor(int64_t elements, int64_t step, int64_t round) {
  // Plain loops: a forked child must not use the threads of its parent.
  Tensor tensor = Tensor::empty({elements}, dtype_of<T>);
  T* data = tensor.mutable_data<T>();
  for (int64_t i = 0; i < elements; ++i)
    data[i] = T(step) + T(round) / T(64) + T(i % 251) / T(1024);
  return tensor;
}

// About `kilobytes` in all, in f32 (model) and f64 (optimizer).
inline CheckpointContents sample_contents(int64_t step, int64_t round = 0,
                                          int64_t kilobytes = 300) {
  CheckpointContents contents;
  contents.model = {{"weight", numbered_tensor<float>(128 * kilobytes, step, round)},
                    {"bias", numbered_tensor<float>(3, step, round)}};
  contents.optimizer = {{"weight.mean", numbered_tensor<double>(64 * kilobytes, step, round)}};
  contents.model_metadata = {{"step", std::to_string(step)}};
  contents.state =
      Json{{"step", step}, {"round", round}, {"sampler", {{"epoch", 1}, {"at", step}}}};
  return contents;
}

inline void expect_same(const NamedTensors& got, const NamedTensors& wanted) {
  ASSERT_EQ(got.size(), wanted.size());
  for (size_t i = 0; i < got.size(); ++i) {
    EXPECT_EQ(got[i].first, wanted[i].first);
    EXPECT_TRUE(bit_identical(got[i].second, wanted[i].second)) << got[i].first;
  }
}
inline void expect_same(const CheckpointContents& got, const CheckpointContents& wanted) {
  expect_same(got.model, wanted.model);
  expect_same(got.optimizer, wanted.optimizer);
  EXPECT_EQ(got.model_metadata, wanted.model_metadata);
  EXPECT_EQ(got.state, wanted.state);
}

// Names in `directory` that begin with a dot.
inline std::vector<std::string> hidden_in(const std::string& directory) {
  std::vector<std::string> names;
  for (const auto& entry : std::filesystem::directory_iterator(directory))
    if (entry.path().filename().string().starts_with('.'))
      names.push_back(entry.path().filename().string());
  return names;
}

}  // namespace reverie::testing
