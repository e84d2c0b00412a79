#pragma once
/// How ranks that know only rank 0's address find each other.

#include <cstdint>
#include <string>
#include <vector>

#include "trainers/distributed/tcp/socket.h"

namespace reverie {

struct TcpPlan {
  int rank = 0, size = 1;
  std::string host = "127.0.0.1";  ///< where rank 0 listens
  uint16_t port = 29500;
  double seconds = 60;  ///< within which all must have come
};

struct TcpPeer {
  Socket socket;     ///< not open: this rank itself
  std::string name;  ///< "rank 1 (host, process 123)"
};
struct TcpPeers {
  std::vector<TcpPeer> ranks;
  uint64_t token = 0;  ///< of this run, drawn by rank 0: tells its messages from others
};

/// Every rank connects to rank 0, which then tells all where the others listen, so that they connect
/// pair by pair. Connections that do not greet as a rank does are closed with a warning, and waited
/// past. MachineError, naming who is missing, when not all have come in time; ConfigError on both
/// sides when a rank counts other ranks, or comes twice.
TcpPeers meet(const TcpPlan& plan);

}  // namespace reverie
