#include "trainers/distributed/tcp/rendezvous.h"

#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <list>
#include <map>
#include <nlohmann/json.hpp>
#include <random>

#include "core/config.h"
#include "core/error.h"
#include "core/json.h"
#include "core/log.h"

namespace reverie {
namespace {

constexpr uint64_t kGreetingMagic =
    0x3150637465697652;                 // "RvietcP1", as little-endian machines write it
constexpr double kGreetingSeconds = 5;  // a stranger may keep a connection this long
constexpr uint32_t kMostReplyBytes = 1 << 20;

struct Greeting {
  uint64_t magic = kGreetingMagic, token = 0;
  int32_t rank = 0, size = 0, process = 0;
  uint32_t port = 0;  // where this rank listens for those above it
  char host[64] = {};
};
struct ReplyHeader {
  uint64_t magic = kGreetingMagic;
  uint32_t refused = 0, bytes = 0;
};

template <class T>
std::span<const std::byte> bytes_of(const T& value) {
  return std::as_bytes(std::span(&value, 1));
}

std::string name_of(const Greeting& g) {
  return fmt::format("rank {} ({}, process {})", g.rank, g.host, g.process);
}

void reply(const Socket& socket, bool refused, const std::string& text, double deadline,
           const std::string& whom) {
  const ReplyHeader header{kGreetingMagic, refused, uint32_t(text.size())};
  send_all(socket, bytes_of(header), deadline, whom);
  send_all(socket, std::as_bytes(std::span(text)), deadline, whom);
}

struct Guest {
  Socket socket;
  Greeting greeting;
  size_t got = 0;  // bytes of the greeting
  double since = monotonic_seconds();
};

// Waits at a door until all ranks from `first` on have come.
class Reception {
 public:
  Reception(const TcpPlan& plan, const Socket& listener, uint64_t token, int first, double deadline)
      : plan_(plan), listener_(listener), token_(token), deadline_(deadline) {
    for (int r = first; r < plan.size; ++r) missing_.push_back(r);
  }
  std::map<int, Guest> wait() {
    while (!missing_.empty()) {
      if (monotonic_seconds() > deadline_) {
        std::string list;
        for (int r : missing_) list += (list.empty() ? "" : ", ") + std::to_string(r);
        throw MachineError(fmt::format(
            "rank {} waited {:.0f} s for rank {} of {}, and it did not connect: check that it "
            "was started, with the same MASTER_ADDR and MASTER_PORT",
            plan_.rank, plan_.seconds, list, plan_.size));
      }
      step();
    }
    return std::move(come_);
  }

 private:
  void step() {
    std::vector<pollfd> entries{{listener_.descriptor(), POLLIN, 0}};
    for (const Guest& g : strangers_) entries.push_back({g.socket.descriptor(), POLLIN, 0});
    ::poll(entries.data(), entries.size(), 100);
    size_t i = 1;
    for (auto guest = strangers_.begin(); guest != strangers_.end(); ++i) {
      const bool stays = entries[i].revents == 0 ? in_time(*guest) : read(*guest);
      guest = stays ? std::next(guest) : strangers_.erase(guest);
    }
    if (entries[0].revents == 0) return;
    while (strangers_.size() < 64) {
      Guest guest;
      guest.socket = accept_from(listener_);
      if (!guest.socket.open()) break;
      strangers_.push_back(std::move(guest));
    }
  }

  bool in_time(const Guest& guest) {
    if (monotonic_seconds() - guest.since < kGreetingSeconds) return true;
    log_warning("closed a connection from {}: it did not greet as a rank does",
                peer_end(guest.socket).host);
    return false;
  }

  // False: done with this guest.
  bool read(Guest& guest) {
    auto* at = reinterpret_cast<std::byte*>(&guest.greeting);
    const ssize_t got =
        ::recv(guest.socket.descriptor(), at + guest.got, sizeof(Greeting) - guest.got, 0);
    if (got < 0 && (errno == EAGAIN || errno == EINTR)) return true;
    if (got > 0) guest.got += size_t(got);
    // What is no greeting is seen by its first bytes; what only ends early, too.
    const bool known = guest.got < sizeof(uint64_t) || guest.greeting.magic == kGreetingMagic;
    if (got > 0 && known && guest.got < sizeof(Greeting)) return true;
    if (got <= 0 || !known || guest.greeting.token != token_) {
      log_warning("closed a connection from {}: it sent data that no rank of this run sends",
                  peer_end(guest.socket).host);
      return false;
    }
    guest.greeting.host[sizeof guest.greeting.host - 1] = 0;
    welcome(std::move(guest));
    return false;
  }

  void welcome(Guest guest) {
    const Greeting& g = guest.greeting;
    std::string problem;
    const auto found = std::find(missing_.begin(), missing_.end(), g.rank);
    if (g.size != plan_.size)
      problem = fmt::format("{} was started as one of {} ranks, rank {} as one of {}", name_of(g),
                            g.size, plan_.rank, plan_.size);
    else if (found == missing_.end())
      problem = fmt::format("{} came, but {}", name_of(g),
                            come_.contains(g.rank) ? "was here before: two processes have one RANK"
                                                   : "is not expected here");
    if (!problem.empty()) {
      try {
        reply(guest.socket, true, problem, monotonic_seconds() + 1, "it");
      } catch (const MachineError&) {  // it need not hear it
      }
      throw ConfigError(problem);
    }
    missing_.erase(found);
    come_[g.rank] = std::move(guest);
  }

  const TcpPlan& plan_;
  const Socket& listener_;
  uint64_t token_;
  double deadline_;
  std::vector<int> missing_;
  std::list<Guest> strangers_;
  std::map<int, Guest> come_;
};

Greeting greeting_of(const TcpPlan& plan, uint64_t token, uint16_t port) {
  Greeting g;
  g.token = token;
  g.rank = plan.rank;
  g.size = plan.size;
  g.process = int32_t(::getpid());
  g.port = port;
  ::gethostname(g.host, sizeof g.host - 1);
  return g;
}

TcpPeers meet_as_first(const TcpPlan& plan, double deadline) {
  const Socket listener = listen_on(plan.host, plan.port);
  auto come = Reception(plan, listener, 0, 1, deadline).wait();
  TcpPeers peers;
  peers.ranks.resize(size_t(plan.size));
  peers.token = std::random_device()() | uint64_t(std::random_device()()) << 32 | 1;
  Json table = {{"token", peers.token}, {"ranks", Json::array()}};
  peers.ranks[0].name = name_of(greeting_of(plan, 0, 0));
  table["ranks"].push_back({{"name", peers.ranks[0].name}, {"host", ""}, {"port", 0}});
  for (auto& [rank, guest] : come) {
    peers.ranks[size_t(rank)].name = name_of(guest.greeting);
    table["ranks"].push_back({{"name", peers.ranks[size_t(rank)].name},
                              {"host", peer_end(guest.socket).host},
                              {"port", guest.greeting.port}});
  }
  for (auto& [rank, guest] : come) {
    reply(guest.socket, false, json_text(table), deadline, peers.ranks[size_t(rank)].name);
    peers.ranks[size_t(rank)].socket = std::move(guest.socket);
  }
  return peers;
}

Json ask_first(const Socket& socket, const TcpPlan& plan, double deadline) {
  const std::string whom = fmt::format("rank 0 at {}:{}", plan.host, plan.port);
  ReplyHeader header;
  receive_all(socket, std::as_writable_bytes(std::span(&header, 1)), deadline, whom);
  if (header.magic != kGreetingMagic || header.bytes > kMostReplyBytes)
    throw MachineError(
        fmt::format("the program that listens at {}:{} is not rank 0 of a run: check MASTER_ADDR "
                    "and MASTER_PORT",
                    plan.host, plan.port));
  std::string text(header.bytes, ' ');
  receive_all(socket, std::as_writable_bytes(std::span(text)), deadline, whom);
  if (header.refused) throw ConfigError(fmt::format("rank 0 refuses this rank: {}", text));
  const Json table = parse_json_or_discard(text);
  if (!table.is_object() || table.at("ranks").size() != size_t(plan.size))
    throw MachineError(fmt::format("{} does not know {} ranks", whom, plan.size));
  return table;
}

TcpPeers meet_as_other(const TcpPlan& plan, double deadline) {
  TcpPeers peers;
  peers.ranks.resize(size_t(plan.size));
  Socket first = connect_to(plan.host, plan.port, deadline, "rank 0");
  // Others reach this rank where rank 0 does.
  const Socket listener = listen_on(local_end(first).host, 0);
  const uint16_t port = local_end(listener).port;
  send_all(first, bytes_of(greeting_of(plan, 0, port)), deadline, "rank 0");
  const Json table = ask_first(first, plan, deadline);
  peers.token = table.at("token");
  for (size_t r = 0; r < peers.ranks.size(); ++r)
    peers.ranks[r].name = table.at("ranks").at(r).at("name");
  peers.ranks[0].socket = std::move(first);
  const Greeting mine = greeting_of(plan, peers.token, port);
  for (int r = 1; r < plan.rank; ++r) {
    TcpPeer& peer = peers.ranks[size_t(r)];
    const Json& there = table.at("ranks").at(size_t(r));
    peer.socket = connect_to(there.at("host"), there.at("port"), deadline, peer.name);
    send_all(peer.socket, bytes_of(mine), deadline, peer.name);
  }
  auto come = Reception(plan, listener, peers.token, plan.rank + 1, deadline).wait();
  for (auto& [rank, guest] : come) peers.ranks[size_t(rank)].socket = std::move(guest.socket);
  return peers;
}

}  // namespace

TcpPeers meet(const TcpPlan& plan) {
  if (plan.rank < 0 || plan.rank >= plan.size)
    throw ConfigError(fmt::format("RANK is {}, and WORLD_SIZE {}: wanted 0 to {}", plan.rank,
                                  plan.size, plan.size - 1));
  const double deadline = monotonic_seconds() + plan.seconds;
  return plan.rank == 0 ? meet_as_first(plan, deadline) : meet_as_other(plan, deadline);
}

}  // namespace reverie
