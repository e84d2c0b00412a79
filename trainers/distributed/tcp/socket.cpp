#include "trainers/distributed/tcp/socket.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <memory>
#include <system_error>
#include <thread>

#include "core/error.h"

namespace reverie {
namespace {

std::string reason(int error) {
  return std::generic_category().message(error);
}

using Addresses = std::unique_ptr<addrinfo, decltype(&::freeaddrinfo)>;

Addresses addresses_of(const std::string& host, uint16_t port, bool to_listen) {
  addrinfo wanted{}, *found = nullptr;
  wanted.ai_socktype = SOCK_STREAM;
  wanted.ai_flags = to_listen ? AI_PASSIVE : 0;
  const int error = ::getaddrinfo(host.c_str(), std::to_string(port).c_str(), &wanted, &found);
  if (error != 0)
    throw MachineError(
        fmt::format("cannot find the address of {}: {}", host, ::gai_strerror(error)));
  return Addresses(found, &::freeaddrinfo);
}

void set_flags(int descriptor) {
  const int on = 1;
  ::setsockopt(descriptor, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
  ::setsockopt(descriptor, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof on);
  ::fcntl(descriptor, F_SETFL, ::fcntl(descriptor, F_GETFL) | O_NONBLOCK);
  ::fcntl(descriptor, F_SETFD, FD_CLOEXEC);
}

// Whether the descriptor is ready for `events` before the deadline.
bool wait_for(int descriptor, short events, double deadline) {
  pollfd entry{descriptor, events, 0};
  while (true) {
    const double left = deadline - monotonic_seconds();
    if (left <= 0) return false;
    const int ready = ::poll(&entry, 1, int(std::min(left, 1.0) * 1000) + 1);
    if (ready > 0) return true;
  }
}

// 0, or the error.
int connect_once(const addrinfo& address, double deadline, Socket& socket) {
  socket = Socket(::socket(address.ai_family, address.ai_socktype, address.ai_protocol));
  if (!socket.open()) return errno;
  set_flags(socket.descriptor());
  if (::connect(socket.descriptor(), address.ai_addr, address.ai_addrlen) == 0) return 0;
  if (errno != EINPROGRESS) return errno;
  if (!wait_for(socket.descriptor(), POLLOUT, deadline)) return ETIMEDOUT;
  int error = 0;
  socklen_t length = sizeof error;
  ::getsockopt(socket.descriptor(), SOL_SOCKET, SO_ERROR, &error, &length);
  return error;
}

template <class NameOf>
Endpoint end_of(const Socket& socket, NameOf name_of) {
  sockaddr_storage address{};
  socklen_t length = sizeof address;
  char host[NI_MAXHOST] = "?", port[NI_MAXSERV] = "0";
  if (name_of(socket.descriptor(), reinterpret_cast<sockaddr*>(&address), &length) == 0)
    ::getnameinfo(reinterpret_cast<sockaddr*>(&address), length, host, sizeof host, port,
                  sizeof port, NI_NUMERICHOST | NI_NUMERICSERV);
  return {host, uint16_t(std::stoi(port))};
}

}  // namespace

double monotonic_seconds() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

Socket& Socket::operator=(Socket&& other) noexcept {
  if (this != &other) {
    close();
    descriptor_ = other.release();
  }
  return *this;
}
void Socket::close() {
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = -1;
}
int Socket::release() {
  return std::exchange(descriptor_, -1);
}

Endpoint local_end(const Socket& socket) {
  return end_of(socket, ::getsockname);
}
Endpoint peer_end(const Socket& socket) {
  return end_of(socket, ::getpeername);
}

Socket listen_on(const std::string& host, uint16_t port) {
  const Addresses addresses = addresses_of(host, port, true);
  int error = 0;
  for (const addrinfo* a = addresses.get(); a; a = a->ai_next) {
    Socket socket(::socket(a->ai_family, a->ai_socktype, a->ai_protocol));
    const int on = 1;
    if (!socket.open()) {
      error = errno;
      continue;
    }
    ::setsockopt(socket.descriptor(), SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    set_flags(socket.descriptor());
    if (::bind(socket.descriptor(), a->ai_addr, a->ai_addrlen) == 0 &&
        ::listen(socket.descriptor(), 128) == 0)
      return socket;
    error = errno;
  }
  throw MachineError(fmt::format("cannot listen at {}:{}: {}", host, port, reason(error)));
}

Socket accept_from(const Socket& listener) {
  Socket socket(::accept(listener.descriptor(), nullptr, nullptr));
  if (socket.open()) set_flags(socket.descriptor());
  return socket;
}

Socket connect_to(const std::string& host, uint16_t port, double deadline,
                  const std::string& whom) {
  const double begin = monotonic_seconds();
  std::string why = "no time left";
  while (monotonic_seconds() < deadline) {
    try {
      const Addresses addresses = addresses_of(host, port, false);
      for (const addrinfo* a = addresses.get(); a; a = a->ai_next) {
        Socket socket;
        const int error = connect_once(*a, std::min(deadline, monotonic_seconds() + 5), socket);
        if (error == 0) return socket;
        why = reason(error);
      }
    } catch (const MachineError& error) {
      why = error.what();
    }
    std::this_thread::sleep_for(std::chrono::milliseconds(100));
  }
  throw MachineError(fmt::format("cannot reach {} at {}:{}: {}, for {:.0f} s", whom, host, port,
                                 why, monotonic_seconds() - begin));
}

void send_all(const Socket& socket, std::span<const std::byte> bytes, double deadline,
              const std::string& whom) {
  while (!bytes.empty()) {
    const ssize_t sent = ::send(socket.descriptor(), bytes.data(), bytes.size(), MSG_NOSIGNAL);
    if (sent > 0) {
      bytes = bytes.subspan(size_t(sent));
    } else if (errno != EAGAIN && errno != EINTR) {
      throw MachineError(fmt::format("{} does not listen: {}", whom, reason(errno)));
    } else if (!wait_for(socket.descriptor(), POLLOUT, deadline)) {
      throw MachineError(fmt::format("{} does not listen", whom));
    }
  }
}

void receive_all(const Socket& socket, std::span<std::byte> bytes, double deadline,
                 const std::string& whom) {
  while (!bytes.empty()) {
    const ssize_t got = ::recv(socket.descriptor(), bytes.data(), bytes.size(), 0);
    if (got > 0) {
      bytes = bytes.subspan(size_t(got));
    } else if (got == 0) {
      throw MachineError(fmt::format("{} closed the connection", whom));
    } else if (errno != EAGAIN && errno != EINTR) {
      throw MachineError(fmt::format("{} is gone: {}", whom, reason(errno)));
    } else if (!wait_for(socket.descriptor(), POLLIN, deadline)) {
      throw MachineError(fmt::format("{} did not answer in time", whom));
    }
  }
}

}  // namespace reverie
