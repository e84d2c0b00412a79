#include "trainers/distributed/device_communicator.h"

#include <deque>
#include <mutex>
#include <nlohmann/json.hpp>

#include "core/cuda.h"
#include "core/cuda_stream.h"
#include "core/error.h"
#include "kernels/elementwise.h"
#include "trainers/distributed/agreement.h"
#include "trainers/distributed/argument_checks.h"
#include "trainers/distributed/launch.h"
#include "trainers/distributed/nccl/nccl_transport.h"
#include "trainers/distributed/polling.h"

namespace reverie {
namespace {

// How long a rank that died has for the last work to arrive, and an error for the others to be
// told.
constexpr double kGraceSeconds = 2;

Tensor elements(const Tensor& t, int64_t begin, int64_t end) {
  return Tensor::over(t.storage(), {end - begin}, t.dtype(), t.offset() + begin);
}
std::span<std::byte> bytes_of(Tensor t) {
  if (t.numel() == 0) return {};
  return {static_cast<std::byte*>(t.mutable_raw()), t.bytes()};
}

class DeviceCommunicator final : public Communicator {
 public:
  DeviceCommunicator(std::shared_ptr<Communicator> host, std::unique_ptr<DeviceTransport> transport)
      : host_(std::move(host)), transport_(std::move(transport)) {}
  int rank() const override { return host_->rank(); }
  int size() const override { return host_->size(); }
  std::string kind() const override { return host_->kind() + ", " + transport_->kind(); }
  bool takes(Device) const override { return true; }
  std::vector<std::string> all_gather(const std::string& text) override {
    return host_->all_gather(text);
  }
  void exchange(const Mail& mail) override { host_->exchange(mail); }
  void watch(double waited) override { host_->watch(waited); }
  void set_time_limit(double seconds) override { host_->set_time_limit(seconds); }
  void abort(int exit_code, const std::string& reason) noexcept override {
    transport_->abort();
    host_->abort(exit_code, reason);
  }

  void broadcast(Tensor& values, int root) override {
    if (on_host(values)) return host_->broadcast(values, root);
    launch({values}, [&] {
      Mail mail(size());
      if (rank() == root)
        mail.send.assign(mail.send.size(), bytes_of(values));
      else
        mail.receive[size_t(root)] = bytes_of(values);
      transport_->exchange(mail);
    }).wait();
  }

  Pending sum_terms(const SumTree& tree, const std::vector<Tensor>& partials,
                    const Tensor& result) override {
    if (on_host(result)) return host_->sum_terms(tree, partials, result);
    return sum(tree, partials, result, 1.0);
  }

  Pending all_reduce_async(const Tensor& values, Reduction reduction) override {
    if (on_host(values)) return host_->all_reduce_async(values, reduction);
    return sum(SumTree::one_term_per_rank(size()), {values}, values,
               reduction == Reduction::mean ? 1.0 / size() : 1.0);
  }

  void all_gather(Tensor& values, const std::vector<int64_t>& begin) override {
    if (on_host(values)) return host_->all_gather(values, begin);
    check_ranges(size(), begin, values.numel());
    launch({values}, [&] { gather_all(values, begin); }).wait();
  }

  void gather(const Tensor& mine, const std::vector<int64_t>& begin, Tensor& values,
              int root) override {
    if (on_host(mine)) return host_->gather(mine, begin, values, root);
    check_ranges(size(), begin, rank() == root ? values.numel() : begin.back());
    launch({mine, values}, [&] {
      Mail mail(size());
      if (rank() != root) {
        mail.send[size_t(root)] = bytes_of(mine);
        return transport_->exchange(mail);
      }
      for (size_t r = 0; r < mail.receive.size(); ++r)
        mail.receive[r] = bytes_of(elements(values, begin[r], begin[r + 1]));
      transport_->exchange(mail);
      elements(values, begin[size_t(root)], begin[size_t(root) + 1])
          .copy_from(elements(mine, 0, mine.numel()));
    }).wait();
  }

 private:
  // Work that was put beside the device's own, and what it uses until then.
  struct Flight {
    std::vector<Tensor> tensors;
    cuda::Event done;
  };

  static bool on_host(const Tensor& t) { return t.device().kind == DeviceKind::cpu; }
  static void require_on_device(const Tensor& t) {
    require(t.is_contiguous() && !on_host(t),
            "ranks exchange contiguous tensors, all on one device, got {} beside others on cuda",
            t);
  }

  Pending sum(const SumTree& tree, const std::vector<Tensor>& partials, const Tensor& result,
              double factor) {
    check_sum(rank(), size(), tree, partials, result);
    std::vector<Tensor> used = partials;
    used.push_back(result);
    return launch(std::move(used), [&] {
      Tensor total = elements(result, 0, result.numel());
      if (total.numel() == 0) return;
      if (tree.any_order()) {
        if (partials[0].raw() != total.raw())
          total.copy_from(elements(partials[0], 0, total.numel()));
        transport_->all_reduce(total);
      } else {
        sum_in_order(tree, partials, total);
      }
      if (factor != 1) kernel::affine(total.device(), {total, factor, 0.0, total});
    });
  }

  // As on the CPU: every rank adds up one piece of the elements, and then has the others' pieces.
  void sum_in_order(const SumTree& tree, const std::vector<Tensor>& mine, Tensor& total) {
    const size_t ranks = size_t(size()), own = size_t(rank());
    std::vector<int64_t> begin;
    for (size_t r = 0; r <= ranks; ++r)
      begin.push_back(total.numel() * int64_t(r) / int64_t(ranks));
    const int64_t piece = begin[own + 1] - begin[own];
    const auto empty = [&](size_t pieces, int64_t of) {
      return Tensor::empty({int64_t(pieces) * of}, total.dtype(), total.device());
    };

    Mail mail(size());
    std::vector<Tensor> packed(ranks), received(ranks);
    for (size_t r = 0; r < ranks; ++r) {
      if (r == own) continue;
      const int64_t count = begin[r + 1] - begin[r];
      if (mine.size() == 1) {
        packed[r] = elements(mine[0], begin[r], begin[r + 1]);
      } else {
        packed[r] = empty(mine.size(), count);
        for (size_t i = 0; i < mine.size(); ++i)
          elements(packed[r], int64_t(i) * count, int64_t(i + 1) * count)
              .copy_from(elements(mine[i], begin[r], begin[r + 1]));
      }
      received[r] = empty(tree.nodes_of(int(r)).size(), piece);
      mail.send[r] = bytes_of(packed[r]);
      mail.receive[r] = bytes_of(received[r]);
    }
    transport_->exchange(mail);

    std::vector<SumNode> nodes;
    std::vector<Tensor> values;
    for (size_t r = 0; r < ranks; ++r) {
      int64_t i = 0;
      for (const SumNode& node : tree.nodes_of(int(r))) {
        values.push_back(r == own ? elements(mine[size_t(i)], begin[own], begin[own + 1])
                                  : elements(received[r], i * piece, (i + 1) * piece));
        ++i;
        append_node(tree, nodes, node, [&](size_t at) {
          if (piece > 0) kernel::accumulate(total.device(), {values[at + 1], 1.0, values[at]});
          values.pop_back();
        });
      }
    }
    if (nodes.size() != 1)
      throw InternalError(
          fmt::format("a sum of {} terms ended with {} nodes", tree.terms(), nodes.size()));
    Tensor sum = elements(total, begin[own], begin[own + 1]);
    if (piece > 0 && values[0].raw() != sum.raw()) sum.copy_from(values[0]);
    gather_all(total, begin);
  }

  void gather_all(const Tensor& values, const std::vector<int64_t>& begin) {
    Mail mail(size());
    const size_t own = size_t(rank());
    for (size_t r = 0; r < mail.send.size(); ++r) {
      mail.send[r] = bytes_of(elements(values, begin[own], begin[own + 1]));
      mail.receive[r] = bytes_of(elements(values, begin[r], begin[r + 1]));
    }
    transport_->exchange(mail);
  }

  // Puts what `work` asks for beside the device's own work, after what that has been asked for so
  // far.
  template <class Work>
  Pending launch(std::vector<Tensor> tensors, Work&& work) {
    const std::lock_guard lock(mutex_);
    for (const Tensor& t : tensors)
      if (t.defined()) require_on_device(t);
    const auto flight = std::make_shared<Flight>();  // its event is the device's work so far
    flight->tensors = std::move(tensors);
    {
      const cuda::StreamScope beside(stream_);
      flight->done.precedes_later_work();
      name_the_dead([&] { work(); });
      flight->done = cuda::Event();
    }
    while (!flights_.empty() && flights_.front()->done.reached()) flights_.pop_front();
    flights_.push_back(flight);
    return Pending(std::async(std::launch::deferred, [this, flight] { land(*flight); }).share());
  }

  void land(const Flight& flight) {
    name_the_dead([&] {
      poll_until([&] { return flight.done.reached(); },
                 [&](double waited) {
                   transport_->check();
                   try {
                     host_->watch(waited);
                   } catch (const PeerError&) {
                     // It may have ended in good order, as soon as its own part was done.
                     if (!reached_in_grace(flight.done)) throw;
                   }
                 });
    });
  }
  static bool reached_in_grace(const cuda::Event& done) {
    bool late = false;
    poll_until([&] { return late || done.reached(); },
               [&](double waited) { late = waited > kGraceSeconds; });
    return done.reached();
  }

  // Devices only say that something failed: where a rank has died, `host` names it. Either way
  // nothing of this rank may go on, or the process could not end.
  template <class Body>
  void name_the_dead(Body&& body) {
    try {
      body();
    } catch (const PeerError&) {
      transport_->abort();
      throw;
    } catch (const MachineError&) {
      transport_->abort();
      bool late = false;
      poll_until([&] { return late; },
                 [&](double waited) {
                   host_->watch(waited);
                   late = waited > kGraceSeconds;
                 });
      throw;
    }
  }

  std::shared_ptr<Communicator> host_;
  std::mutex mutex_;
  cuda::Stream stream_;
  std::deque<std::shared_ptr<Flight>> flights_;  // no tensor goes while work still uses it
  std::unique_ptr<DeviceTransport> transport_;
};

// A GPU for each rank.
void take_gpu(Communicator& host) {
  const int gpus = cuda::gpu_count();
  if (gpus == 0) return;  // emulated: the CPU serves all
  cuda::use_gpu(gpu_of_rank(host.rank(), gpus, std::getenv));
  if (!cuda::status().usable)
    throw ConfigError(fmt::format("$.device is cuda: {}; use cpu", cuda::status().in_words));
  require_gpus_of_their_own(host, cuda::gpu_uuid());
}

}  // namespace

std::shared_ptr<Communicator> make_device_communicator(std::shared_ptr<Communicator> host,
                                                       std::unique_ptr<DeviceTransport> transport) {
  return std::make_shared<DeviceCommunicator>(std::move(host), std::move(transport));
}

std::shared_ptr<Communicator> communicator_on(Device device, std::shared_ptr<Communicator> host) {
  require_same_on_all_ranks(*host, {{"config", {{"device", std::string(name_of(device.kind))}}}});
  if (host->takes(device)) return host;
  if (cuda::status().flavour == cuda::Flavour::emulated)
    return make_device_communicator(host, make_emulated_transport(*host));
  take_gpu(*host);
  return make_device_communicator(host, make_nccl_transport(*host));
}

}  // namespace reverie
