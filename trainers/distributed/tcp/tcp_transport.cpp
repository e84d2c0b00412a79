#include "trainers/distributed/tcp/tcp_transport.h"

#include <poll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <deque>
#include <system_error>

namespace reverie {
namespace {

constexpr uint64_t kFrameMagic = 0x676d746569766552;
constexpr size_t kMostReasonBytes = 4096;
enum Kind : uint32_t { kData = 1, kSignOfLife = 2, kAbort = 3 };

struct Header {
  uint64_t magic = 0;  // of this run: kFrameMagic ^ token
  uint32_t kind = 0;
  uint32_t sequence = 0;  // of the exchange
  uint64_t bytes = 0;     // that follow
};

struct Outgoing {
  Header header;
  std::span<const std::byte> body;
  size_t sent = 0;  // of both
};

struct Peer {
  TcpPeer end;
  double heard = 0;  // when something last came
  std::deque<Outgoing> out;
  // What is being read: a header, then what it announces.
  Header header;
  size_t header_got = 0, body_got = 0;
  std::span<std::byte> place;  // of the data of this exchange
  bool expected = false;       // they have not come yet
  std::string reason;          // of an abort
  bool busy() const { return expected || !out.empty(); }
};

class TcpTransport final : public Transport {
 public:
  TcpTransport(const TcpPlan& plan, TcpPeers peers)
      : rank_(plan.rank), magic_(kFrameMagic ^ peers.token), peers_(peers.ranks.size()) {
    for (size_t r = 0; r < peers_.size(); ++r) peers_[r].end = std::move(peers.ranks[r]);
  }
  int rank() const override { return rank_; }
  int size() const override { return int(peers_.size()); }
  std::string kind() const override { return "tcp"; }

  void exchange(const Mail& mail) override {
    if (!failure_.empty()) throw PeerError(failure_);
    try {
      ++sequence_;
      begin_ = monotonic_seconds();
      for (size_t r = 0; r < peers_.size(); ++r) {
        if (int(r) == rank_) continue;
        Peer& peer = peers_[r];
        if (!mail.send[r].empty()) queue(peer, kData, mail.send[r]);
        peer.place = mail.receive[r];
        peer.expected = !peer.place.empty();
      }
      while (std::any_of(peers_.begin(), peers_.end(), [](const Peer& p) { return p.busy(); })) {
        turn(0.25);
        give_signs_of_life();
        look_for_the_silent();
      }
    } catch (const PeerError& error) {
      failure_ = error.what();
      throw;
    }
  }

  void idle() override {
    if (!failure_.empty()) return;
    give_signs_of_life();
    for (Peer& peer : peers_)
      if (!peer.out.empty()) send_some(peer);
  }

  void watch(double waited) override {
    if (!failure_.empty()) throw PeerError(failure_);
    try {
      idle();
      begin_ = monotonic_seconds() - waited;
      for (size_t r = 0; r < peers_.size(); ++r) {
        if (int(r) == rank_) continue;
        listen(peers_[r]);
        require_heard(peers_[r]);
      }
    } catch (const PeerError& error) {
      failure_ = error.what();
      throw;
    }
  }

  void abort(int, const std::string& reason) noexcept override {
    const std::string text = reason.substr(0, kMostReasonBytes);
    failure_ = "this rank has ended the run: " + text;
    const double deadline = monotonic_seconds() + 2;
    for (Peer& peer : peers_) {
      if (!peer.end.socket.open()) continue;
      try {
        // A message cut short cannot be followed by another: that peer sees the end alone.
        while (!peer.out.empty() && peer.out.front().sent > 0 && monotonic_seconds() < deadline)
          send_some(peer);
        if (!peer.out.empty() && peer.out.front().sent > 0) continue;
        peer.out.clear();
        queue(peer, kAbort, std::as_bytes(std::span(text)));
        while (!peer.out.empty() && monotonic_seconds() < deadline) send_some(peer);
      } catch (const std::exception&) {  // it is gone already
      }
      ::shutdown(peer.end.socket.descriptor(), SHUT_WR);
    }
    // Closing while bytes lie unread would take the reason from the other side, so that they are
    // read until it closes, too.
    for (Peer& peer : peers_) drain(peer, deadline);
    for (Peer& peer : peers_) peer.end.socket.close();
  }

 private:
  void queue(Peer& peer, Kind kind, std::span<const std::byte> body) {
    peer.out.push_back({{magic_, kind, sequence_, body.size()}, body, 0});
  }

  // Moves what can be moved within `seconds`. Who has nothing for this exchange is not listened to:
  // it may be further already.
  void turn(double seconds) {
    std::vector<pollfd> entries;
    std::vector<Peer*> whose;
    for (Peer& peer : peers_) {
      if (!peer.busy()) continue;
      const auto events = short((peer.expected ? POLLIN : 0) | (peer.out.empty() ? 0 : POLLOUT));
      entries.push_back({peer.end.socket.descriptor(), events, 0});
      whose.push_back(&peer);
    }
    if (::poll(entries.data(), entries.size(), int(seconds * 1000)) <= 0) return;
    for (size_t i = 0; i < entries.size(); ++i) {
      if (entries[i].revents == 0) continue;
      // Reading first: a peer that ended may have said why.
      if (whose[i]->expected) receive_some(*whose[i]);
      if (!whose[i]->out.empty()) send_some(*whose[i]);
    }
  }

  void send_some(Peer& peer) {
    while (!peer.out.empty()) {
      Outgoing& o = peer.out.front();
      const auto header = std::as_bytes(std::span(&o.header, 1));
      const auto rest =
          o.sent < header.size() ? header.subspan(o.sent) : o.body.subspan(o.sent - header.size());
      if (!rest.empty()) {
        const ssize_t sent =
            ::send(peer.end.socket.descriptor(), rest.data(), rest.size(), MSG_NOSIGNAL);
        if (sent < 0) {
          if (errno == EAGAIN || errno == EINTR) return;
          if (o.header.kind == kSignOfLife && !peer.expected) {  // it may have ended in good order
            peer.out.clear();
            return;
          }
          gone(peer, errno);
        }
        o.sent += size_t(sent);
      }
      if (o.sent == header.size() + o.body.size()) peer.out.pop_front();
    }
  }

  void receive_some(Peer& peer) {
    while (peer.expected) {
      std::span<std::byte> rest;
      if (peer.header_got < sizeof(Header)) {
        rest = std::as_writable_bytes(std::span(&peer.header, 1)).subspan(peer.header_got);
      } else if (peer.header.kind == kAbort) {
        rest = std::as_writable_bytes(std::span(peer.reason)).subspan(peer.body_got);
      } else {
        rest = peer.place.subspan(peer.body_got);
      }
      if (!rest.empty()) {
        const ssize_t got = ::recv(peer.end.socket.descriptor(), rest.data(), rest.size(), 0);
        if (got == 0) gone(peer, 0);
        if (got < 0) {
          if (errno == EAGAIN || errno == EINTR) return;
          gone(peer, errno);
        }
        peer.heard = monotonic_seconds();
        if (peer.header_got < sizeof(Header)) {
          peer.header_got += size_t(got);
          if (peer.header_got == sizeof(Header)) look_at_header(peer);
        } else {
          peer.body_got += size_t(got);
        }
      }
      if (peer.header_got == sizeof(Header) && peer.body_got == peer.header.bytes) finish(peer);
    }
  }

  // Between exchanges: takes signs of life and the end of the run. Data is left where it lies, as
  // it belongs to an exchange that its sender has begun and this rank has not.
  void listen(Peer& peer) {
    const int socket = peer.end.socket.descriptor();
    while (!peer.expected) {
      Header next;
      const ssize_t got = ::recv(socket, &next, sizeof next, MSG_PEEK);
      if (got == 0) gone(peer, 0);
      if (got < 0) {
        if (errno == EAGAIN || errno == EINTR) return;
        gone(peer, errno);
      }
      if (size_t(got) < sizeof next) return;
      peer.heard = monotonic_seconds();
      if (next.magic == magic_ && next.kind == kData) {
        pollfd entry{socket, POLLRDHUP, 0};
        if (::poll(&entry, 1, 0) > 0) gone(peer, 0);
        return;
      }
      if (next.magic == magic_ && next.kind == kSignOfLife && next.bytes == 0)
        (void)::recv(socket, &next, sizeof next, 0);
      else
        peer.expected = true;  // the end, or an error
    }
    receive_some(peer);
  }

  void look_at_header(Peer& peer) {
    const Header& h = peer.header;
    peer.body_got = 0;
    if (h.magic != magic_ || h.kind < kData || h.kind > kAbort)
      throw PeerError(fmt::format("{} sent data that no rank of this run sends", peer.end.name));
    if (h.kind == kSignOfLife && h.bytes != 0)
      throw PeerError(fmt::format("{} sent a sign of life with {} bytes", peer.end.name, h.bytes));
    if (h.kind == kAbort) {
      if (h.bytes > kMostReasonBytes)
        throw PeerError(fmt::format("{} ended the run without a word", peer.end.name));
      peer.reason.resize(h.bytes);
    }
    if (h.kind == kData && (h.bytes != peer.place.size() || h.sequence != sequence_))
      throw PeerError(
          fmt::format("{} sent {} bytes in its exchange {}, where rank {} wanted {} in its "
                      "exchange {}: they are not "
                      "in step",
                      peer.end.name, h.bytes, h.sequence, rank_, peer.place.size(), sequence_));
  }

  void finish(Peer& peer) {
    peer.header_got = 0;
    if (peer.header.kind == kAbort)
      throw PeerError(fmt::format("{} has ended the run: {}", peer.end.name, peer.reason));
    if (peer.header.kind == kData) peer.expected = false;
  }

  [[noreturn]] void gone(const Peer& peer, int error) const {
    throw PeerError(fmt::format(
        "{} has died: {}", peer.end.name,
        error == 0 ? "it closed the connection" : std::generic_category().message(error)));
  }

  void give_signs_of_life() {
    const double now = monotonic_seconds();
    if (now - last_sign_ < std::min(1.0, time_limit() / 4)) return;
    last_sign_ = now;
    for (Peer& peer : peers_)
      if (peer.end.socket.open() && peer.out.empty()) queue(peer, kSignOfLife, {});
  }

  void look_for_the_silent() const {
    for (const Peer& peer : peers_)
      if (peer.busy()) require_heard(peer);
  }
  void require_heard(const Peer& peer) const {
    if (monotonic_seconds() - std::max(begin_, peer.heard) > time_limit())
      throw PeerError(fmt::format("{} gave no sign of life for {} s", peer.end.name, time_limit()));
  }

  static void drain(Peer& peer, double deadline) {
    std::byte waste[4096];
    while (peer.end.socket.open() && monotonic_seconds() < deadline) {
      pollfd entry{peer.end.socket.descriptor(), POLLIN, 0};
      if (::poll(&entry, 1, 100) <= 0) continue;
      if (::recv(peer.end.socket.descriptor(), waste, sizeof waste, 0) <= 0) return;
    }
  }

  int rank_;
  uint64_t magic_;
  std::vector<Peer> peers_;
  uint32_t sequence_ = 0;
  double begin_ = 0, last_sign_ = 0;
  std::string failure_;
};

}  // namespace

std::unique_ptr<Transport> make_tcp_transport(const TcpPlan& plan) {
  return std::make_unique<TcpTransport>(plan, meet(plan));
}

}  // namespace reverie
