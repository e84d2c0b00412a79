// The emulation of CUDA kernels finds what it is there to find: each class of bug is planted in a
// kernel, and must be reported in the right words, with the lines.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

#include "core/cuda.h"

#if !defined(REVERIE_CUDA_EMULATED)

TEST(Emulation, IsNotInThisBuild) {
  GTEST_SKIP() << "CUDA kernels are not emulated in this build (cmake --preset emulated)";
}

#else

#include "kernels/cuda/emulation/emulation.h"
#include "kernels/cuda/launch.cuh"
#include "support/message_of.h"

namespace reverie::cuda {
namespace {

using reverie::testing::message_of;
using ::testing::AllOf;
using ::testing::HasSubstr;

constexpr Device kCuda{DeviceKind::cuda, 0};

template <class T>
T* on_device(Tensor& t) {
  return static_cast<T*>(t.mutable_raw());
}
std::string line(int number) {
  return fmt::format("test_emulation.cpp:{}", number);
}

// y[i] = x[threads - 1 - i], by way of shared memory.
constexpr int kReverseWrites = __LINE__ + 5;
template <bool kBarrier>
__global__ void reverse(const float* x, float* y) {
  REVERIE_SHARED(float, tile, 64);
  const int i = int(threadIdx.x);
  tile[i] = x[i];
  if constexpr (kBarrier) __syncthreads();
  y[i] = tile[int(blockDim.x) - 1 - i];
}
constexpr int kReverseReads = __LINE__ - 2;

// The same by way of device memory, which has no record of who touched it.
template <bool kBarrier>
__global__ void reverse_in_memory(const float* x, float* between, float* y) {
  const int i = int(threadIdx.x);
  between[i] = x[i];
  if constexpr (kBarrier) __syncthreads();
  y[i] = between[int(blockDim.x) - 1 - i];
}

Tensor numbers(int64_t count) {
  Tensor t = Tensor::empty({count}, DType::f32);
  for (int64_t i = 0; i < count; ++i) t.mutable_data<float>()[i] = float(i);
  return t.to(kCuda);
}
bool reversed(const Tensor& y) {
  const std::vector<double> values = y.to_vector();
  for (size_t i = 0; i < values.size(); ++i)
    if (values[i] != double(values.size() - 1 - i)) return false;
  return true;
}

TEST(Emulation, RunsARightKernelInAnyOrder) {
  for (unsigned schedule = 0; schedule < 8; ++schedule) {
    emulation::set_schedule(schedule);
    Tensor x = numbers(64), y = Tensor::empty({64}, DType::f32, kCuda), between = y.clone();
    Launch(1, 64)(reverse<true>, on_device<float>(x), on_device<float>(y));
    EXPECT_TRUE(reversed(y));
    Launch(1, 64)(reverse_in_memory<true>, on_device<float>(x), on_device<float>(between),
                  on_device<float>(y));
    EXPECT_TRUE(reversed(y));
  }
  emulation::set_schedule(0);
}

// Found whatever the order, with both lines.
TEST(Emulation, FindsAMissingBarrierOnSharedMemory) {
  for (unsigned schedule = 0; schedule < 4; ++schedule) {
    emulation::set_schedule(schedule);
    Tensor x = numbers(64), y = Tensor::empty({64}, DType::f32, kCuda);
    const std::string message = message_of<InternalError>(
        [&] { Launch(1, 64)(reverse<false>, on_device<float>(x), on_device<float>(y)); });
    EXPECT_THAT(message, AllOf(HasSubstr("shared memory race"), HasSubstr("tile["),
                               HasSubstr("no barrier between"), HasSubstr(line(kReverseReads)),
                               HasSubstr(line(kReverseWrites))));
  }
  emulation::set_schedule(0);
}

// Within one warp of one order the mistake may go unseen; some order shows it.
TEST(Emulation, FindsAMissingBarrierOnDeviceMemory) {
  int wrong = 0;
  for (unsigned schedule = 0; schedule < 4; ++schedule) {
    emulation::set_schedule(schedule);
    Tensor x = numbers(64), y = Tensor::empty({64}, DType::f32, kCuda),
           between = Tensor::empty({64}, DType::f32, kCuda);
    Launch(1, 64)(reverse_in_memory<false>, on_device<float>(x), on_device<float>(between),
                  on_device<float>(y));
    wrong += !reversed(y);
  }
  emulation::set_schedule(0);
  EXPECT_GT(wrong, 0);
}

constexpr int kFirstBarrier = __LINE__ + 4;
template <bool kDiverges>
__global__ void part_at_a_barrier(float* y) {
  if (kDiverges && threadIdx.x >= 32)
    __syncthreads();
  else
    __syncthreads();
  y[threadIdx.x] = 1;
}
TEST(Emulation, FindsADivergentBarrier) {
  Tensor y = Tensor::empty({64}, DType::f32, kCuda);
  EXPECT_THAT(message_of<InternalError>(
                  [&] { Launch(1, 64)(part_at_a_barrier<true>, on_device<float>(y)); }),
              AllOf(HasSubstr("divergent barrier"), HasSubstr(line(kFirstBarrier)),
                    HasSubstr(line(kFirstBarrier + 2))));
  Launch(1, 64)(part_at_a_barrier<false>, on_device<float>(y));
  EXPECT_EQ(y.to_vector(), std::vector<double>(64, 1));
}

constexpr int kLonelyBarrier = __LINE__ + 3;
__global__ void end_before_a_barrier(float* y) {
  if (threadIdx.x >= 32) return;
  __syncthreads();
  y[threadIdx.x] = 1;
}
TEST(Emulation, FindsThreadsThatEndWhileOthersWait) {
  Tensor y = Tensor::empty({64}, DType::f32, kCuda);
  EXPECT_THAT(
      message_of<InternalError>([&] { Launch(1, 64)(end_before_a_barrier, on_device<float>(y)); }),
      AllOf(HasSubstr("divergent barrier"), HasSubstr("has ended"),
            HasSubstr(line(kLonelyBarrier))));
}

constexpr int kLonelyShuffle = __LINE__ + 3;
__global__ void part_at_a_shuffle(float* y) {
  float value = float(threadIdx.x);
  if (threadIdx.x != 7) value = __shfl_xor_sync(kAllLanes, value, 1);
  y[threadIdx.x] = value;
}
TEST(Emulation, FindsADivergentWarp) {
  Tensor y = Tensor::empty({32}, DType::f32, kCuda);
  EXPECT_THAT(
      message_of<InternalError>([&] { Launch(1, 32)(part_at_a_shuffle, on_device<float>(y)); }),
      AllOf(HasSubstr("divergent warp"), HasSubstr("thread 7 has ended"),
            HasSubstr(line(kLonelyShuffle))));
}

__global__ void write_at(float* y, int64_t index) {
  if (threadIdx.x == 0) y[index] = 1;
}
TEST(Emulation, FindsWritesBesideDeviceMemory) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the address sanitizer ends the program at such a write";
#endif
  for (const int64_t index : {int64_t(100), int64_t(-1), int64_t(130)}) {
    Tensor y = Tensor::empty({100}, DType::f32, kCuda);
    const int here = __LINE__ + 1;
    const auto launch = [&] { Launch(1, 32)(write_at, on_device<float>(y), index); };
    EXPECT_THAT(message_of<InternalError>(launch),
                AllOf(HasSubstr("device memory out of bounds"), HasSubstr("400 bytes"),
                      HasSubstr(line(here))));
  }
  Tensor y = Tensor::empty({100}, DType::f32, kCuda);
  Launch(1, 32)(write_at, on_device<float>(y), int64_t(99));
  EXPECT_EQ(y.to_vector()[99], 1);
}

__global__ void add_neighbour(const float* x, float* y) {
  y[threadIdx.x] = x[threadIdx.x] + x[threadIdx.x + 1];
}
TEST(Emulation, ReadsBesideDeviceMemoryAreNaN) {
#if defined(__SANITIZE_ADDRESS__)
  GTEST_SKIP() << "the address sanitizer ends the program at such a read";
#endif
  Tensor x = numbers(32), y = Tensor::empty({32}, DType::f32, kCuda);
  Launch(1, 32)(add_neighbour, on_device<float>(x), on_device<float>(y));
  const std::vector<double> values = y.to_vector();
  EXPECT_EQ(values[30], 61);
  EXPECT_TRUE(std::isnan(values[31]));
}

constexpr int kBeyond = __LINE__ + 4;
__global__ void write_beyond_shared(float* y, int count) {
  REVERIE_SHARED(float, tile, 32);
  const int i = int(threadIdx.x);
  if (i < count) tile[i + 1] = 1;
  y[i] = 0;
}
TEST(Emulation, FindsSharedMemoryOutOfBounds) {
  Tensor y = Tensor::empty({32}, DType::f32, kCuda);
  Launch(1, 32)(write_beyond_shared, on_device<float>(y), 31);
  EXPECT_THAT(message_of<InternalError>(
                  [&] { Launch(1, 32)(write_beyond_shared, on_device<float>(y), 32); }),
              AllOf(HasSubstr("shared memory out of bounds"), HasSubstr("tile[32] of 32 elements"),
                    HasSubstr("thread 31"), HasSubstr(line(kBeyond))));
}

constexpr int kAllWrite = __LINE__ + 3;
__global__ void write_the_same_place(float* y) {
  REVERIE_SHARED(float, place, 1);
  place[0] = float(threadIdx.x);
  __syncthreads();
  y[threadIdx.x] = place[0];
}
TEST(Emulation, FindsTwoWritersOfOnePlace) {
  Tensor y = Tensor::empty({32}, DType::f32, kCuda);
  EXPECT_THAT(
      message_of<InternalError>([&] { Launch(1, 32)(write_the_same_place, on_device<float>(y)); }),
      AllOf(HasSubstr("shared memory race"), HasSubstr("thread 1 writes place[0]"),
            HasSubstr("thread 0 wrote"), HasSubstr(line(kAllWrite))));
}

// A shuffle does not order memory; __syncwarp does, within its warp.
template <bool kOrdered>
__global__ void neighbour_by_shared(float* y) {
  REVERIE_SHARED(float, tile, 32);
  const int i = int(threadIdx.x);
  tile[i] = float(i);
  if constexpr (kOrdered)
    __syncwarp();
  else
    __shfl_xor_sync(kAllLanes, 0, 1);
  y[i] = tile[i ^ 1];
}
TEST(Emulation, OnlyBarriersOrderSharedMemory) {
  Tensor y = Tensor::empty({32}, DType::f32, kCuda);
  Launch(1, 32)(neighbour_by_shared<true>, on_device<float>(y));
  EXPECT_EQ(y.to_vector()[4], 5);
  EXPECT_THAT(message_of<InternalError>(
                  [&] { Launch(1, 32)(neighbour_by_shared<false>, on_device<float>(y)); }),
              HasSubstr("shared memory race"));
}

__global__ void keep_nothing(float* y) {
  REVERIE_SHARED(float, tile, 32);
  const int i = int(threadIdx.x);
  y[blockIdx.x * 32 + threadIdx.x] = tile[i];
  tile[i] = 1;
}
TEST(Emulation, SharedMemoryStartsAsNaNInEachBlock) {
  Tensor y = Tensor::empty({96}, DType::f32, kCuda);
  Launch(3, 32)(keep_nothing, on_device<float>(y));
  for (const double value : y.to_vector()) EXPECT_TRUE(std::isnan(value));
}

TEST(Emulation, DeviceMemoryIsNotTheHosts) {
  Tensor y = numbers(4);
  EXPECT_THAT(message_of<InternalError>([&] { (void)y.data<float>(); }),
              HasSubstr("the elements of f32[4] cuda are not on the cpu"));
  EXPECT_EQ(y.to_vector(), (std::vector<double>{0, 1, 2, 3}));
  EXPECT_EQ(y.to(Device{}).data<float>()[2], 2);
}

__global__ void sum_all(const float* x, int count, float* y) {
  float total = 0;
  for (int i = int(threadIdx.x); i < count; i += int(blockDim.x)) total += x[i];
  total = over_block(total, Sum{}, 0.0f);
  y[threadIdx.x] = over_block(total, Maximum{}, -1.0f);
}
TEST(Emulation, SumsOverABlockReachEveryThread) {
  Tensor x = numbers(100), y = Tensor::empty({96}, DType::f32, kCuda);
  for (const int threads : {32, 64, 96}) {
    Launch(1, threads)(sum_all, on_device<float>(x), 100, on_device<float>(y));
    for (int i = 0; i < threads; ++i) EXPECT_EQ(y.to_vector()[size_t(i)], 4950);
  }
}

__global__ void touch_dynamic(float* y) {
  REVERIE_DYNAMIC_SHARED(float, tile, 64);
  tile[threadIdx.x] = 1;
  y[threadIdx.x] = tile[threadIdx.x];
}
TEST(Emulation, FindsSharedMemoryThatTheLaunchDidNotAskFor) {
  Tensor y = Tensor::empty({64}, DType::f32, kCuda);
  Launch(1, 64).with_shared(256)(touch_dynamic, on_device<float>(y));
  EXPECT_EQ(y.to_vector()[63], 1);
  EXPECT_THAT(message_of<InternalError>(
                  [&] { Launch(1, 64).with_shared(252)(touch_dynamic, on_device<float>(y)); }),
              HasSubstr("256 bytes of shared memory, but the launch said 252"));
}

// y [16, 16] = a [16, 16] b, with b [16, 16] as it lies or transposed, by one warp.
constexpr int kWords = 12;  // of a row of the tile
template <bool kAsRows, bool kAllLanesCome>
__global__ void multiply_by_tensor_cores(const float* a, const float* b, float* y) {
  REVERIE_SHARED(uint32_t, tile, 32 * kWords);
  const int lane = lane_number();
  for (int i = lane; i < 128; i += kWarpSize) {
    tile[i / 8 * kWords + i % 8] = bf16_pair(a[2 * i], a[2 * i + 1]);
    tile[(16 + i / 8) * kWords + i % 8] = bf16_pair(b[2 * i], b[2 * i + 1]);
  }
  __syncwarp();
  const Left left = load_left(tile, 0, kWords);
  Right right[2];
  if (kAsRows)
    load_right_of_rows(right, tile, 16 * kWords, kWords);
  else
    load_right_of_columns(right, tile, 16 * kWords, kWords);
  Product products[2] = {};
  if (!kAllLanesCome && lane == 5) return;
  for (int n = 0; n < 2; ++n) {
    multiply_add(products[n], left, right[n]);
    for (int i = 0; i < 4; ++i)
      y[(lane / 4 + i / 2 * 8) * 16 + n * 8 + lane % 4 * 2 + i % 2] = products[n].at[i];
  }
}
TEST(Emulation, TensorCoresMultiplyWholeWarps) {
  Tensor a = numbers(256), b = numbers(256), y = Tensor::empty({256}, DType::f32, kCuda);
  const auto expect_product = [&](bool transposed) {
    const std::vector<double> got = y.to_vector();
    for (int i = 0; i < 16; ++i)
      for (int j = 0; j < 16; ++j) {
        double wanted = 0;
        for (int k = 0; k < 16; ++k)
          wanted += (i * 16.0 + k) * (transposed ? j * 16 + k : k * 16 + j);
        EXPECT_EQ(got[size_t(i * 16 + j)], wanted) << i << ", " << j;
      }
  };
  Launch(1, 32)(multiply_by_tensor_cores<false, true>, on_device<float>(a), on_device<float>(b),
                on_device<float>(y));
  expect_product(false);
  Launch(1, 32)(multiply_by_tensor_cores<true, true>, on_device<float>(a), on_device<float>(b),
                on_device<float>(y));
  expect_product(true);
  EXPECT_THAT(message_of<InternalError>([&] {
                Launch(1, 32)(multiply_by_tensor_cores<true, false>, on_device<float>(a),
                              on_device<float>(b), on_device<float>(y));
              }),
              AllOf(HasSubstr("divergent warp"), HasSubstr("thread 5 has ended")));
}

}  // namespace
}  // namespace reverie::cuda

#endif
