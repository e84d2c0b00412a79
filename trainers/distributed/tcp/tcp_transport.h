#pragma once
/// Ranks that are processes, on one machine or several, connected pair by pair.

#include <memory>

#include "trainers/distributed/tcp/rendezvous.h"
#include "trainers/distributed/transport.h"

namespace reverie {

/// See meet() for how it may fail.
std::unique_ptr<Transport> make_tcp_transport(const TcpPlan& plan);

}  // namespace reverie
