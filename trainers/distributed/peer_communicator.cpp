// Collectives out of exchanges of bytes.

#include <algorithm>
#include <chrono>
#include <condition_variable>
#include <cstring>
#include <deque>
#include <mutex>
#include <thread>

#include "core/error.h"
#include "trainers/distributed/argument_checks.h"
#include "trainers/distributed/communicator.h"

namespace reverie {
namespace {

template <class T>
void add_elements(std::byte* to, const std::byte* from, size_t bytes) {
  T* a = reinterpret_cast<T*>(to);
  const T* b = reinterpret_cast<const T*>(from);
  for (size_t i = 0; i < bytes / sizeof(T); ++i) a[i] += b[i];
}
void add(DType dtype, std::byte* to, const std::byte* from, size_t bytes) {
  if (dtype == DType::f64)
    add_elements<double>(to, from, bytes);
  else
    add_elements<float>(to, from, bytes);
}
template <class T>
void scale_elements(std::byte* at, size_t bytes, double factor) {
  T* x = reinterpret_cast<T*>(at);
  for (size_t i = 0; i < bytes / sizeof(T); ++i) x[i] = T(x[i] * factor);
}

// A tensor's bytes. `keep` holds them while the worker has them.
struct Block {
  explicit Block(const Tensor& t) : keep(t), data(static_cast<std::byte*>(keep.mutable_raw())) {
    require(t.is_contiguous() && t.device() == Device{},
            "ranks exchange contiguous tensors on the CPU, got {}", t);
  }
  std::span<std::byte> part(size_t begin, size_t end) const { return {data + begin, end - begin}; }
  Tensor keep;
  std::byte* data;
};

class PeerCommunicator final : public Communicator {
 public:
  explicit PeerCommunicator(std::unique_ptr<Transport> transport)
      : transport_(std::move(transport)), worker_([this] { work(); }) {}
  ~PeerCommunicator() override {
    {
      const std::lock_guard lock(mutex_);
      closing_ = true;
    }
    wake_.notify_all();
    worker_.join();
  }
  int rank() const override { return transport_->rank(); }
  int size() const override { return transport_->size(); }
  std::string kind() const override { return transport_->kind(); }
  bool takes(Device device) const override { return device == Device{}; }
  void set_time_limit(double seconds) override { transport_->set_time_limit(seconds); }

  void broadcast(Tensor& values, int root) override {
    const Block block(values);
    submit([this, block, root] {
      Mail mail(size());
      const auto bytes = block.part(0, block.keep.bytes());
      if (rank() == root)
        mail.send.assign(mail.send.size(), bytes);
      else
        mail.receive[size_t(root)] = bytes;
      transport_->exchange(mail);
    }).wait();
  }

  Pending sum_terms(const SumTree& tree, const std::vector<Tensor>& partials,
                    const Tensor& result) override {
    return sum(tree, partials, result, 1.0);
  }

  Pending all_reduce_async(const Tensor& values, Reduction reduction) override {
    return sum(SumTree::one_term_per_rank(size()), {values}, values,
               reduction == Reduction::mean ? 1.0 / size() : 1.0);
  }

  void all_gather(Tensor& values, const std::vector<int64_t>& begin) override {
    check_ranges(size(), begin, values.numel());
    const Block block(values);
    std::vector<size_t> bytes;
    for (int64_t b : begin) bytes.push_back(size_t(b) * size_of(values.dtype()));
    submit([this, block, bytes] { gather_all(block, bytes); }).wait();
  }

  void gather(const Tensor& mine, const std::vector<int64_t>& begin, Tensor& values,
              int root) override {
    const size_t width = size_of(mine.dtype());
    check_ranges(size(), begin, rank() == root ? values.numel() : begin.back());
    const Block block(mine);
    if (rank() != root) {
      submit([this, block, root] {
        Mail mail(size());
        mail.send[size_t(root)] = block.part(0, block.keep.bytes());
        transport_->exchange(mail);
      }).wait();
      return;
    }
    const Block all(values);
    submit([&] {
      Mail mail(size());
      for (size_t r = 0; r < mail.receive.size(); ++r)
        mail.receive[r] = all.part(size_t(begin[r]) * width, size_t(begin[r + 1]) * width);
      transport_->exchange(mail);
    }).wait();
    if (mine.bytes() > 0)  // an empty tensor has no address
      std::memcpy(all.data + size_t(begin[size_t(root)]) * width, block.data, mine.bytes());
  }

  std::vector<std::string> all_gather(const std::string& text) override {
    std::vector<std::string> texts(size_t(size()), text);
    submit([&] {
      std::vector<uint64_t> lengths(texts.size());
      const uint64_t own = text.size();
      Mail sizes(size()), contents(size());
      for (size_t r = 0; r < texts.size(); ++r) {
        sizes.send[r] = std::as_bytes(std::span(&own, 1));
        sizes.receive[r] = std::as_writable_bytes(std::span(&lengths[r], 1));
      }
      transport_->exchange(sizes);
      constexpr uint64_t kMost = uint64_t(1) << 30;
      for (size_t r = 0; r < texts.size(); ++r) {
        if (int(r) == rank()) continue;
        if (lengths[r] > kMost)
          throw PeerError(fmt::format("rank {} announces a text of {} bytes", r, lengths[r]));
        texts[r].resize(lengths[r]);
        contents.send[r] = std::as_bytes(std::span(text));
        contents.receive[r] = std::as_writable_bytes(std::span(texts[r]));
      }
      transport_->exchange(contents);
    }).wait();
    return texts;
  }

  void exchange(const Mail& mail) override {
    submit([&] { transport_->exchange(mail); }).wait();
  }

  void watch(double waited) override {
    submit([&] { transport_->watch(waited); }).wait();
  }

  void abort(int exit_code, const std::string& reason) noexcept override {
    try {
      submit([&] { transport_->abort(exit_code, reason); }, true).wait();
    } catch (...) {  // the reason is on its way to the user already
    }
  }

 private:
  Pending sum(const SumTree& tree, const std::vector<Tensor>& partials, const Tensor& result,
              double factor) {
    check_sum(rank(), size(), tree, partials, result);
    const std::vector<Block> blocks(partials.begin(), partials.end());
    return submit([this, tree, blocks, total = Block(result), factor] {
      sum_blocks(tree, blocks, total, factor);
    });
  }

  // Every rank adds up one piece of the elements, and then has the others' pieces: twice the bytes
  // go through each rank, however many ranks there are.
  void sum_blocks(const SumTree& tree, const std::vector<Block>& mine, const Block& result,
                  double factor) {
    const DType dtype = result.keep.dtype();
    const size_t width = size_of(dtype), ranks = size_t(size()), own = size_t(rank());
    std::vector<size_t> begin;  // of the pieces, in bytes
    for (size_t r = 0; r <= ranks; ++r)
      begin.push_back(size_t(result.keep.numel()) * r / ranks * width);
    const size_t piece = begin[own + 1] - begin[own];

    Mail mail(size());
    std::vector<std::vector<std::byte>> packed(ranks), received(ranks);
    for (size_t r = 0; r < ranks; ++r) {
      if (r == own) continue;
      if (mine.size() == 1) {
        mail.send[r] = mine[0].part(begin[r], begin[r + 1]);
      } else {
        for (const Block& b : mine) {
          const auto part = b.part(begin[r], begin[r + 1]);
          packed[r].insert(packed[r].end(), part.begin(), part.end());
        }
        mail.send[r] = packed[r];
      }
      received[r].resize(tree.nodes_of(int(r)).size() * piece);
      mail.receive[r] = received[r];
    }
    transport_->exchange(mail);

    std::vector<SumNode> nodes;
    std::vector<std::byte*> values;
    for (size_t r = 0; r < ranks; ++r) {
      size_t i = 0;
      for (const SumNode& node : tree.nodes_of(int(r))) {
        values.push_back(r == own ? mine[i].data + begin[own] : received[r].data() + i * piece);
        ++i;
        append_node(tree, nodes, node, [&](size_t at) {
          add(dtype, values[at], values[at + 1], piece);
          values.pop_back();
        });
      }
    }
    if (nodes.size() != 1)
      throw InternalError(
          fmt::format("a sum of {} terms ended with {} nodes", tree.terms(), nodes.size()));
    std::byte* total = result.data + begin[own];
    if (piece > 0 && values[0] != total) std::memmove(total, values[0], piece);
    if (factor != 1) {
      if (dtype == DType::f64)
        scale_elements<double>(total, piece, factor);
      else
        scale_elements<float>(total, piece, factor);
    }
    gather_all(result, begin);
  }

  void gather_all(const Block& block, const std::vector<size_t>& begin) {
    Mail mail(size());
    const size_t own = size_t(rank());
    for (size_t r = 0; r < mail.send.size(); ++r) {
      mail.send[r] = block.part(begin[own], begin[own + 1]);
      mail.receive[r] = block.part(begin[r], begin[r + 1]);
    }
    transport_->exchange(mail);
  }

  Pending submit(std::function<void()> job, bool urgent = false) {
    std::packaged_task<void()> task(std::move(job));
    Pending pending(task.get_future().share());
    {
      const std::lock_guard lock(mutex_);
      if (urgent)
        jobs_.push_front(std::move(task));
      else
        jobs_.push_back(std::move(task));
    }
    wake_.notify_all();
    return pending;
  }

  void work() {
    while (true) {
      std::packaged_task<void()> job;
      {
        std::unique_lock lock(mutex_);
        if (!wake_.wait_for(lock, between_signs(), [&] { return closing_ || !jobs_.empty(); })) {
          lock.unlock();
          idle();
          continue;
        }
        if (closing_) return;  // whoever still wanted something has been thrown out of it
        job = std::move(jobs_.front());
        jobs_.pop_front();
      }
      job();
    }
  }

  // Others wait for a sign of life no longer than the time limit.
  std::chrono::duration<double> between_signs() const {
    return std::chrono::duration<double>(std::min(0.25, transport_->time_limit() / 4));
  }
  void idle() {
    try {
      transport_->idle();
    } catch (const Error&) {  // the next exchange says so where somebody listens
    }
  }

  std::unique_ptr<Transport> transport_;
  std::mutex mutex_;
  std::condition_variable wake_;
  std::deque<std::packaged_task<void()>> jobs_;
  bool closing_ = false;
  std::thread worker_;  // last: it uses the others
};

}  // namespace

std::shared_ptr<Communicator> make_communicator(std::unique_ptr<Transport> transport) {
  return std::make_shared<PeerCommunicator>(std::move(transport));
}

}  // namespace reverie
