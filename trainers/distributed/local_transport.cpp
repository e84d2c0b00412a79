#include "trainers/distributed/local_transport.h"

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <deque>
#include <mutex>
#include <optional>

namespace reverie {
namespace {

struct Post {
  explicit Post(int ranks) : boxes(size_t(ranks * ranks)), gone(size_t(ranks)) {}
  std::mutex mutex;
  std::condition_variable arrived;
  std::vector<std::deque<std::vector<std::byte>>> boxes;  // [from * ranks + to]
  std::vector<std::optional<std::string>> gone;           // why each rank left
};

class LocalTransport final : public Transport {
 public:
  LocalTransport(std::shared_ptr<Post> post, int rank, int size)
      : post_(std::move(post)), rank_(rank), size_(size) {}
  ~LocalTransport() override { leave("it ended"); }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string kind() const override { return "threads"; }

  void exchange(const Mail& mail) override {
    std::unique_lock lock(post_->mutex);
    for (int to = 0; to < size_; ++to) {
      const auto& message = mail.send[size_t(to)];
      if (to != rank_ && !message.empty())
        box(rank_, to).emplace_back(message.begin(), message.end());
    }
    post_->arrived.notify_all();
    for (int from = 0; from < size_; ++from) {
      const auto& place = mail.receive[size_t(from)];
      if (from == rank_ || place.empty()) continue;
      auto& letters = box(from, rank_);
      const auto& gone = post_->gone[size_t(from)];
      const bool in_time =
          post_->arrived.wait_for(lock, std::chrono::duration<double>(time_limit()),
                                  [&] { return !letters.empty() || gone; });
      if (!in_time)
        throw PeerError(fmt::format("rank {} gave no sign of life for {} s", from, time_limit()));
      if (letters.empty()) throw PeerError(fmt::format("rank {} is gone: {}", from, *gone));
      if (letters.front().size() != place.size())
        throw PeerError(
            fmt::format("rank {} sent {} bytes where rank {} wanted {}: they are not in step", from,
                        letters.front().size(), rank_, place.size()));
      std::copy(letters.front().begin(), letters.front().end(), place.begin());
      letters.pop_front();
    }
  }
  void watch(double) override {
    const std::lock_guard lock(post_->mutex);
    for (int from = 0; from < size_; ++from)
      if (const auto& gone = post_->gone[size_t(from)]; gone && from != rank_)
        throw PeerError(fmt::format("rank {} is gone: {}", from, *gone));
  }
  void abort(int, const std::string& reason) noexcept override { leave(reason); }

 private:
  std::deque<std::vector<std::byte>>& box(int from, int to) {
    return post_->boxes[size_t(from * size_ + to)];
  }
  void leave(const std::string& reason) {
    const std::lock_guard lock(post_->mutex);
    auto& gone = post_->gone[size_t(rank_)];
    if (!gone) gone = reason;
    post_->arrived.notify_all();
  }

  std::shared_ptr<Post> post_;
  int rank_, size_;
};

}  // namespace

std::vector<std::unique_ptr<Transport>> make_local_transports(int ranks) {
  auto post = std::make_shared<Post>(ranks);
  std::vector<std::unique_ptr<Transport>> list;
  for (int r = 0; r < ranks; ++r) list.push_back(std::make_unique<LocalTransport>(post, r, ranks));
  return list;
}
std::vector<std::shared_ptr<Communicator>> make_local_communicators(int ranks) {
  std::vector<std::shared_ptr<Communicator>> list;
  for (auto& transport : make_local_transports(ranks))
    list.push_back(make_communicator(std::move(transport)));
  return list;
}

}  // namespace reverie
