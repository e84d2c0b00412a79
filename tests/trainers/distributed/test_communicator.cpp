// Collectives, over threads.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>

#include "trainers/distributed/agreement.h"
#include "trainers/distributed/ranks.h"

namespace reverie {
namespace {

using ::testing::Each;
using ::testing::HasSubstr;
using ::testing::IsEmpty;
using testing::run_ranks;

Tensor filled(const Shape& shape, DType dtype, double first) {
  Tensor t = Tensor::empty(shape, DType::f64);
  for (int64_t i = 0; i < t.numel(); ++i) t.mutable_data<double>()[i] = first + double(i);
  return t.to(dtype);
}

TEST(Communicator, Broadcasts) {
  EXPECT_THAT(run_ranks(4,
                        [](Communicator& c) {
                          for (int root = 0; root < 4; ++root) {
                            Tensor t = filled({3, 5}, DType::f32, c.rank() == root ? 10 + root : 0);
                            c.broadcast(t, root);
                            EXPECT_TRUE(bit_identical(t, filled({3, 5}, DType::f32, 10 + root)));
                          }
                        }),
              Each(IsEmpty()));
}

TEST(Communicator, ReducesSumsAndMeans) {
  for (int ranks : {1, 2, 3, 5})
    for (DType dtype : {DType::f32, DType::f64})
      for (int64_t count : {0, 1, 4, 1000})  // fewer elements than ranks, too
        EXPECT_THAT(run_ranks(ranks,
                              [&](Communicator& c) {
                                Tensor sum = filled({count}, dtype, c.rank()), mean = sum.clone();
                                c.all_reduce(sum, Reduction::sum);
                                c.all_reduce(mean, Reduction::mean);
                                for (int64_t i = 0; i < count; ++i) {
                                  const double wanted =
                                      ranks * double(i) + ranks * (ranks - 1) / 2.0;
                                  EXPECT_EQ(sum.to_vector()[size_t(i)], wanted);
                                  EXPECT_NEAR(mean.to_vector()[size_t(i)], wanted / ranks, 1e-4);
                                }
                              }),
                    Each(IsEmpty()));
}

TEST(Communicator, ManyAreUnderWayAtOnce) {
  EXPECT_THAT(run_ranks(3,
                        [](Communicator& c) {
                          std::vector<Tensor> tensors;
                          std::vector<Pending> pending;
                          for (int i = 0; i < 20; ++i) {
                            tensors.push_back(Tensor::full({100 + i}, i + c.rank(), DType::f64));
                            pending.push_back(c.all_reduce_async(tensors.back(), Reduction::sum));
                          }
                          c.barrier();
                          for (size_t i = pending.size(); i-- > 0;) {
                            pending[i].wait();
                            EXPECT_EQ(tensors[i].to_vector()[7], 3 * double(i) + 3);
                          }
                        }),
              Each(IsEmpty()));
}

TEST(Communicator, GathersUnevenRangesAndTexts) {
  EXPECT_THAT(run_ranks(3,
                        [](Communicator& c) {
                          const std::vector<int64_t> begin{0, 2, 2, 7};
                          const Tensor wanted = filled({7}, DType::f64, 0);
                          const size_t r = size_t(c.rank());
                          Tensor all = Tensor::full({7}, -1, DType::f64);
                          const Tensor mine = wanted.slice(0, begin[r], begin[r + 1]).clone();
                          if (mine.numel() > 0)
                            all.slice(0, begin[r], begin[r + 1]).copy_from(mine);
                          c.all_gather(all, begin);
                          EXPECT_TRUE(bit_identical(all, wanted));
                          Tensor whole;
                          if (c.rank() == 2) whole = Tensor::zeros({7}, DType::f64);
                          c.gather(mine, begin, whole, 2);
                          if (c.rank() == 2) {
                            EXPECT_TRUE(bit_identical(whole, wanted));
                          }
                          const auto texts = c.all_gather(std::string(size_t(c.rank()), 'x'));
                          EXPECT_EQ(texts, (std::vector<std::string>{"", "x", "xx"}));
                        }),
              Each(IsEmpty()));
}

TEST(Communicator, ABarrierWaitsForAll) {
  std::atomic<int> arrived{0};
  EXPECT_THAT(run_ranks(4,
                        [&](Communicator& c) {
                          for (int round = 1; round <= 20; ++round) {
                            ++arrived;
                            c.barrier();
                            EXPECT_GE(arrived, 4 * round);
                            c.barrier();
                          }
                        }),
              Each(IsEmpty()));
}

TEST(Communicator, OneThatLeavesOrFailsIsNamed) {
  auto left = run_ranks(3, [](Communicator& c) {
    if (c.rank() == 1) throw UserError("it had enough");
    c.barrier();
  });
  EXPECT_THAT(left[0], HasSubstr("rank 1"));
  EXPECT_THAT(left[2], HasSubstr("it had enough"));
}

TEST(Communicator, OneThatHangsIsNamedWithinTheTimeLimit) {
  const auto communicators = make_local_communicators(3);
  std::atomic<int> waiting{2};
  const auto begin = std::chrono::steady_clock::now();
  const auto errors = run_ranks(communicators, [&](Communicator& c) {
    c.set_time_limit(0.3);
    if (c.rank() == 2) {
      while (waiting > 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));
      return;
    }
    try {
      c.barrier();
    } catch (...) {
      --waiting;
      throw;
    }
  });
  EXPECT_LT(std::chrono::steady_clock::now() - begin, std::chrono::seconds(5));
  EXPECT_THAT(errors[0] + errors[1], HasSubstr("rank 2 gave no sign of life for 0.3 s"));
}

TEST(Communicator, RanksOutOfStepAreAnError) {
  const auto errors = run_ranks(2, [](Communicator& c) {
    Tensor t = Tensor::zeros({c.rank() == 0 ? 10 : 20}, DType::f32);
    c.all_reduce(t, Reduction::sum);
  });
  EXPECT_THAT(errors[0] + errors[1], HasSubstr("not in step"));
}

TEST(Communicator, WhatItCannotAddIsRefused) {
  EXPECT_THAT(run_ranks(2,
                        [](Communicator& c) {
                          Tensor t = Tensor::zeros({3}, DType::i32);
                          c.all_reduce(t, Reduction::sum);
                        }),
              Each(HasSubstr("f32 and f64")));
}

TEST(Agreement, NamesTheRankAndTheDifference) {
  const auto errors = run_ranks(3, [](Communicator& c) {
    require_same_on_all_ranks(c,
                              {{"build", c.rank() == 1 ? "abc" : "def"}, {"config", {{"a", 1}}}});
  });
  EXPECT_THAT(errors, Each(HasSubstr("rank 1 was started differently")));
  EXPECT_THAT(errors, Each(HasSubstr(R"($.build: "def" -> "abc")")));
  EXPECT_THAT(run_ranks(3,
                        [](Communicator& c) {
                          require_same_on_all_ranks(c, {{"a", 1}});
                        }),
              Each(IsEmpty()));
}

}  // namespace
}  // namespace reverie
