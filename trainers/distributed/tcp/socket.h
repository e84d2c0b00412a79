#pragma once
/// TCP sockets, closed when their owner goes.

#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace reverie {

double monotonic_seconds();

class Socket {
 public:
  Socket() = default;
  explicit Socket(int descriptor) : descriptor_(descriptor) {}
  ~Socket() { close(); }
  Socket(Socket&& other) noexcept : descriptor_(other.release()) {}
  Socket& operator=(Socket&& other) noexcept;
  int descriptor() const { return descriptor_; }
  bool open() const { return descriptor_ >= 0; }
  void close();

 private:
  int release();
  int descriptor_ = -1;
};

struct Endpoint {
  std::string host;  ///< numeric
  uint16_t port = 0;
};
Endpoint local_end(const Socket&);
Endpoint peer_end(const Socket&);

/// Listens on the address that `host` names; port 0: one that is free. MachineError with the reason
/// when it cannot.
Socket listen_on(const std::string& host, uint16_t port);
/// The next connection that waits; not open when there is none. Non-blocking, without delays.
Socket accept_from(const Socket& listener);
/// Tries again until `deadline` (of monotonic_seconds()), as the other side may not be up yet.
/// MachineError with the last reason when nobody answers; `whom` is for that message.
Socket connect_to(const std::string& host, uint16_t port, double deadline, const std::string& whom);

/// Before `deadline`, the whole of it or MachineError saying what happened to `whom`.
void send_all(const Socket&, std::span<const std::byte>, double deadline, const std::string& whom);
void receive_all(const Socket&, std::span<std::byte>, double deadline, const std::string& whom);

}  // namespace reverie
