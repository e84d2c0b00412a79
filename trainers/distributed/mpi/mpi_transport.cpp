#include "trainers/distributed/mpi/mpi_transport.h"

#include <mpi.h>

#include <algorithm>
#include <chrono>
#include <thread>
#include <vector>

namespace reverie {
namespace {

constexpr int kData = 1, kSignOfLife = 2;
constexpr size_t kMostBytes = size_t(1) << 30;  // of one message: MPI counts in int

double now() {
  return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count();
}

void check(int error, const char* what) {
  if (error == MPI_SUCCESS) return;
  char text[MPI_MAX_ERROR_STRING] = {};
  int length = 0;
  MPI_Error_string(error, text, &length);
  throw PeerError(fmt::format("MPI: {}: {}", what, text));
}

// A message of this exchange, or a piece of a large one.
struct Message {
  int peer = 0;
  bool receives = false;
  int bytes = 0;
};

// MPI's own reductions add in an order of their own, so that only messages are used. A rank that
// dies is mpirun's affair: it says which, and ends the others. The time limit is for one that
// hangs.
class MpiTransport final : public Transport {
 public:
  MpiTransport() {
    int level = 0;
    // Messages are exchanged by the communicator's thread alone, but that one did not begin MPI.
    check(MPI_Init_thread(nullptr, nullptr, MPI_THREAD_SERIALIZED, &level), "cannot begin");
    if (level < MPI_THREAD_SERIALIZED)
      throw MachineError("this MPI serves the main thread alone (wanted MPI_THREAD_SERIALIZED)");
    MPI_Comm_set_errhandler(MPI_COMM_WORLD, MPI_ERRORS_RETURN);
    MPI_Comm_rank(MPI_COMM_WORLD, &rank_);
    MPI_Comm_size(MPI_COMM_WORLD, &size_);
    heard_.resize(size_t(size_));
    signs_.resize(size_t(size_), MPI_REQUEST_NULL);
  }
  ~MpiTransport() override {
    try {
      hear_signs_of_life();
    } catch (const PeerError&) {
    }
    MPI_Finalize();
  }
  int rank() const override { return rank_; }
  int size() const override { return size_; }
  std::string kind() const override { return "mpi"; }

  void exchange(const Mail& mail) override {
    const double begin = now();
    std::vector<MPI_Request> requests;
    std::vector<Message> messages;
    for (int r = 0; r < size_; ++r) {
      if (r == rank_) continue;
      const auto place = mail.receive[size_t(r)];
      for (size_t at = 0; at < place.size(); at += kMostBytes) {
        messages.push_back({r, true, int(std::min(kMostBytes, place.size() - at))});
        check(MPI_Irecv(place.data() + at, messages.back().bytes, MPI_BYTE, r, kData,
                        MPI_COMM_WORLD, &requests.emplace_back()),
              "cannot receive");
      }
    }
    for (int r = 0; r < size_; ++r) {
      if (r == rank_) continue;
      const auto body = mail.send[size_t(r)];
      for (size_t at = 0; at < body.size(); at += kMostBytes) {
        messages.push_back({r, false, int(std::min(kMostBytes, body.size() - at))});
        check(MPI_Isend(body.data() + at, messages.back().bytes, MPI_BYTE, r, kData, MPI_COMM_WORLD,
                        &requests.emplace_back()),
              "cannot send");
      }
    }
    wait(requests, messages, begin);
  }

  void idle() override { give_signs_of_life(); }

  void watch(double waited) override {
    give_signs_of_life();
    hear_signs_of_life();
    for (int r = 0; r < size_; ++r)
      if (r != rank_) require_heard(r, now() - waited);
  }

  void abort(int exit_code, const std::string&) noexcept override {
    MPI_Abort(MPI_COMM_WORLD, exit_code == 0 ? 1 : exit_code);
  }

 private:
  void wait(std::vector<MPI_Request>& requests, const std::vector<Message>& messages,
            double begin) {
    std::vector<MPI_Status> statuses(requests.size());
    for (int64_t round = 0;; ++round) {
      int done = 0;
      const int error = MPI_Testall(int(requests.size()), requests.data(), &done, statuses.data());
      if (error != MPI_SUCCESS) wrong(messages, statuses);
      if (done) break;
      // Spinning takes a core from those that compute; sleeping at once takes time from short
      // waits.
      if (round > 200)
        std::this_thread::sleep_for(std::chrono::microseconds(round > 2000 ? 500 : 50));
      if (round % 64 != 63) continue;
      give_signs_of_life();
      hear_signs_of_life();
      look_for_the_silent(requests, messages, begin);
    }
    for (size_t i = 0; i < messages.size(); ++i) {
      if (!messages[i].receives) continue;
      int bytes = 0;
      MPI_Get_count(&statuses[i], MPI_BYTE, &bytes);
      if (bytes != messages[i].bytes) out_of_step(messages[i], bytes);
    }
  }

  [[noreturn]] void out_of_step(const Message& m, int64_t bytes) const {
    throw PeerError(
        fmt::format("rank {} sent {} bytes where rank {} wanted {}: they are not in step", m.peer,
                    bytes < 0 ? "more" : std::to_string(bytes), rank_, m.bytes));
  }
  [[noreturn]] void wrong(const std::vector<Message>& messages,
                          const std::vector<MPI_Status>& statuses) const {
    for (size_t i = 0; i < messages.size(); ++i) {
      int kind = MPI_SUCCESS;
      MPI_Error_class(statuses[i].MPI_ERROR, &kind);
      if (kind == MPI_ERR_TRUNCATE) out_of_step(messages[i], -1);
    }
    throw PeerError("MPI: an exchange failed");
  }

  void give_signs_of_life() {
    if (now() - last_sign_ < std::min(1.0, time_limit() / 4)) return;
    last_sign_ = now();
    static const char sign = 0;
    for (int r = 0; r < size_; ++r) {
      int sent = 1;
      if (r == rank_) continue;
      MPI_Test(&signs_[size_t(r)], &sent, MPI_STATUS_IGNORE);
      if (sent)
        check(MPI_Isend(&sign, 1, MPI_BYTE, r, kSignOfLife, MPI_COMM_WORLD, &signs_[size_t(r)]),
              "cannot give a sign of life");
    }
  }

  void hear_signs_of_life() {
    while (true) {
      int there = 0;
      MPI_Status status;
      check(MPI_Iprobe(MPI_ANY_SOURCE, kSignOfLife, MPI_COMM_WORLD, &there, &status),
            "cannot look");
      if (!there) return;
      char sign;
      check(MPI_Recv(&sign, 1, MPI_BYTE, status.MPI_SOURCE, kSignOfLife, MPI_COMM_WORLD, &status),
            "cannot receive");
      heard_[size_t(status.MPI_SOURCE)] = now();
    }
  }

  void look_for_the_silent(const std::vector<MPI_Request>& requests,
                           const std::vector<Message>& messages, double begin) const {
    for (size_t i = 0; i < requests.size(); ++i) {
      int done = 0;
      MPI_Request_get_status(requests[i], &done, MPI_STATUS_IGNORE);
      if (!done) require_heard(messages[i].peer, begin);
    }
  }
  void require_heard(int peer, double begin) const {
    if (now() - std::max(begin, heard_[size_t(peer)]) > time_limit())
      throw PeerError(fmt::format("rank {} gave no sign of life for {} s", peer, time_limit()));
  }

  int rank_ = 0, size_ = 1;
  double last_sign_ = 0;
  std::vector<double> heard_;
  std::vector<MPI_Request> signs_;
};

}  // namespace

std::string mpi_library() {
  char text[MPI_MAX_LIBRARY_VERSION_STRING] = {};
  int length = 0;
  MPI_Get_library_version(text, &length);
  const std::string whole(text, size_t(length));
  return whole.substr(0, whole.find_first_of(",\n"));
}

std::unique_ptr<Transport> make_mpi_transport() {
  return std::make_unique<MpiTransport>();
}

}  // namespace reverie
