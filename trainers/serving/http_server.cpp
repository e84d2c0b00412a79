#include "trainers/serving/http_server.h"

#include <httplib.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <chrono>
#include <condition_variable>
#include <cstdlib>
#include <exception>
#include <mutex>
#include <new>
#include <thread>

#include "core/error.h"
#include "core/log.h"

namespace reverie {
namespace {

using Clock = std::chrono::steady_clock;

// Bytes of a request line and its headers. The library matches some of them with std::regex, which
// takes up to 800 bytes of the thread's stack for each.
constexpr int64_t kHeaderBytes = 4096;
// Bytes of a body that is too long which are read and thrown away, so that its sender gets the
// answer: a connection that closes with unread bytes is reset.
constexpr int64_t kDrainedBodies = 16;
constexpr double kHeaderSeconds = 15, kWriteSeconds = 30, kLingerSeconds = 2;

// One request's connection, with limits on all that a client may send and on the time it may take.
class Connection final : public httplib::Stream {
 public:
  Connection(socket_t socket, const HttpLimits& limits)
      : socket_(socket), limits_(limits), left_(kHeaderBytes), until_(in(kHeaderSeconds)) {}

  void begin_body() {
    left_ = limits_.body_bytes * (kDrainedBodies + 1);
    until_ = in(limits_.upload_seconds);
  }
  // Reads and forgets what the client still sends, so that it is not reset before it has the answer.
  void linger() {
    ::shutdown(socket_, SHUT_WR);
    left_ = limits_.body_bytes;
    until_ = in(kLingerSeconds);
    char rest[4096];
    while (read(rest, sizeof(rest)) > 0) {
    }
  }

  bool is_readable() const override { return ready(POLLIN, until_); }
  bool is_writable() const override { return ready(POLLOUT, in(kWriteSeconds)); }
  ssize_t read(char* data, size_t size) override {
    if (left_ <= 0 || !is_readable()) return -1;
    const ssize_t got = ::recv(socket_, data, std::min(size, size_t(left_)), 0);
    left_ -= std::max<ssize_t>(0, got);
    return got;
  }
  ssize_t write(const char* data, size_t size) override {
    return is_writable() ? ::send(socket_, data, size, MSG_NOSIGNAL) : -1;
  }
  void get_remote_ip_and_port(std::string&, int&) const override {}
  void get_local_ip_and_port(std::string&, int&) const override {}
  socket_t socket() const override { return socket_; }

 private:
  static Clock::time_point in(double seconds) {
    return Clock::now() +
           std::chrono::duration_cast<Clock::duration>(std::chrono::duration<double>(seconds));
  }
  bool ready(short what, Clock::time_point until) const {
    while (true) {
      const auto left =
          std::chrono::duration_cast<std::chrono::milliseconds>(until - Clock::now()).count();
      pollfd one{socket_, what, 0};
      const int got = ::poll(&one, 1, int(std::max<int64_t>(0, left)));
      if (got >= 0 || errno != EINTR) return got > 0;
    }
  }

  socket_t socket_;
  const HttpLimits& limits_;
  int64_t left_;  // bytes that may still come
  Clock::time_point until_;
};

// The library's server on such connections. One request each: an idle connection would hold a
// thread.
class LimitedServer final : public httplib::Server {
 public:
  explicit LimitedServer(const HttpLimits& limits) : limits_(limits) {}
  // The library listens with room for five connections that nobody has accepted yet.
  void widen() { ::listen(svr_sock_, 1024); }

 private:
  bool process_and_close_socket(socket_t socket) override {
    Connection connection(socket, limits_);
    bool closed = false, answered = false;
    try {
      answered = process_request(connection, true, closed, [&](httplib::Request& request) {
        // Parts of an answer, or a packed one, are of no use here.
        request.ranges.clear();
        request.headers.erase("Accept-Encoding");
        connection.begin_body();
      });
      connection.linger();
    } catch (const std::exception& e) {
      log_error("a connection failed: {}", e.what());
    }
    ::close(socket);
    return answered;
  }

  const HttpLimits& limits_;
};

}  // namespace

struct HttpServer::Inside {
  explicit Inside(const HttpLimits& l) : limits(l), server(limits) {}

  // Counts the requests whose answers are not written yet.
  struct Open {
    explicit Open(Inside& inside) : of(inside) {
      const std::lock_guard lock(of.mutex);
      ++of.open;
    }
    ~Open() {
      const std::lock_guard lock(of.mutex);
      --of.open;
      of.changed.notify_all();
    }
    Open(const Open&) = delete;
    Open& operator=(const Open&) = delete;
    Inside& of;
  };

  template <class Handler>
  void answer(httplib::Response& response, const Handler& handler) {
    const auto open = std::make_shared<Open>(*this);
    HttpAnswer got;
    try {
      got = handler();
    } catch (const UserError& e) {
      got = http_error(400, e.what());
    } catch (const std::bad_alloc&) {
      got = http_error(500, "out of memory");
    } catch (const std::exception& e) {
      log_error("a request failed: {}", e.what());
      got = http_error(500, e.what());
    }
    response.status = got.status;
    if (!got.stream) return response.set_content(got.body, "application/json");
    response.set_chunked_content_provider(
        "text/event-stream", [open, stream = got.stream](size_t, httplib::DataSink& sink) {
          bool whole = true;
          stream([&](const std::string& more) {
            whole = whole && sink.write(more.data(), more.size());
            return whole;
          });
          if (whole) sink.done();
          return whole;
        });
  }

  // -> an answer that says why there is no body, or status 0.
  HttpAnswer read_body(const httplib::Request& request, const httplib::ContentReader& reader,
                       std::string& body) const {
    if (request.is_multipart_form_data()) return http_error(415, "wanted JSON, got a form");
    const auto began = Clock::now();
    int64_t bytes = 0;
    const bool whole = reader([&](const char* data, size_t size) {
      bytes += int64_t(size);
      if (bytes <= limits.body_bytes) body.append(data, size);
      return bytes <= limits.body_bytes * kDrainedBodies;
    });
    // The connection gives up a moment before that.
    const std::chrono::duration<double> took = Clock::now() - began;
    if (!whole && took.count() > 0.99 * limits.upload_seconds)
      return http_error(
          408, fmt::format("the request was not sent within {} seconds", limits.upload_seconds));
    if (bytes > limits.body_bytes || declared_too_long(request))
      return http_error(
          413, fmt::format("the request is longer than {} bytes (--max-body)", limits.body_bytes));
    if (!whole) return http_error(400, "the request's body ended early, or cannot be unpacked");
    return {0};
  }
  bool declared_too_long(const httplib::Request& request) const {
    const std::string declared = request.get_header_value("Content-Length");
    return std::strtoull(declared.c_str(), nullptr, 10) > uint64_t(limits.body_bytes);
  }

  HttpLimits limits;
  LimitedServer server;
  std::thread thread;
  std::mutex mutex;
  std::condition_variable changed;
  int64_t open = 0;
  bool stopped = false;
};

HttpServer::HttpServer(const HttpLimits& limits) : inside_(std::make_unique<Inside>(limits)) {
  httplib::Server& server = inside_->server;
  server.new_task_queue = [limits] { return new httplib::ThreadPool(size_t(limits.connections)); };
  // The library's own options would let two servers share a port, each with some of the requests.
  server.set_socket_options([](socket_t socket) {
    const int yes = 1;
    ::setsockopt(socket, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof(yes));
  });
  server.set_tcp_nodelay(true);
  server.set_payload_max_length(size_t(limits.body_bytes));
  const auto explain = [](const httplib::Request& request, httplib::Response& response) {
    if (!response.body.empty()) return httplib::Server::HandlerResponse::Unhandled;
    const HttpAnswer error = http_error(
        response.status, response.status == 404
                             ? fmt::format("there is no {} {}", request.method, request.path)
                             : "the request is no HTTP that this server reads");
    response.set_content(error.body, "application/json");
    return httplib::Server::HandlerResponse::Handled;
  };
  server.set_error_handler(httplib::Server::HandlerWithResponse(explain));
}

HttpServer::~HttpServer() {
  finish(5);
  if (inside_->thread.joinable()) {
    // Its connections still use what it points to.
    inside_->thread.detach();
    (void)inside_.release();
  }
}

void HttpServer::get(const std::string& path,
                     std::function<HttpAnswer(const std::string& path)> handler) {
  inside_->server.Get(path, [inside = inside_.get(), handler](const httplib::Request& request,
                                                              httplib::Response& response) {
    inside->answer(response, [&] { return handler(request.path); });
  });
}

void HttpServer::post(const std::string& path,
                      std::function<HttpAnswer(const std::string& body)> handler) {
  inside_->server.Post(path, [inside = inside_.get(), handler](
                                 const httplib::Request& request, httplib::Response& response,
                                 const httplib::ContentReader& reader) {
    inside->answer(response, [&] {
      std::string body;
      const HttpAnswer refused = inside->read_body(request, reader, body);
      return refused.status == 0 ? handler(body) : refused;
    });
  });
}

int HttpServer::bind(const std::string& host, int port) {
  // Bodies for other paths would be read whatever their length.
  using Request = httplib::Request;
  const auto unknown = [inside = inside_.get()](const Request& request, httplib::Response& response,
                                                const httplib::ContentReader& reader) {
    inside->answer(response, [&] {
      std::string body;
      const HttpAnswer refused = inside->read_body(request, reader, body);
      return refused.status == 0
                 ? http_error(404, fmt::format("there is no {} {}", request.method, request.path))
                 : refused;
    });
  };
  httplib::Server& server = inside_->server;
  server.Post(".*", unknown).Put(".*", unknown).Patch(".*", unknown).Delete(".*", unknown);
  const int got = port == 0                         ? server.bind_to_any_port(host)
                  : server.bind_to_port(host, port) ? port
                                                    : -1;
  require(got > 0,
          "cannot listen on {} port {}: it is taken, may not be used, or is no address of this "
          "machine; choose another one (--host, --port; 0: any that is free)",
          host, port);
  inside_->server.widen();
  return got;
}

void HttpServer::start() {
  inside_->thread = std::thread([inside = inside_.get()] {
    inside->server.listen_after_bind();
    const std::lock_guard lock(inside->mutex);
    inside->stopped = true;
    inside->changed.notify_all();
  });
}

bool HttpServer::finish(double patience_seconds) {
  if (!inside_->thread.joinable()) return true;
  {
    std::unique_lock lock(inside_->mutex);
    inside_->changed.wait(lock, [&] { return inside_->open == 0; });
  }
  inside_->server.stop();
  {
    std::unique_lock lock(inside_->mutex);
    const std::chrono::duration<double> patience(patience_seconds);
    if (!inside_->changed.wait_for(lock, patience, [&] { return inside_->stopped; })) return false;
  }
  inside_->thread.join();
  return true;
}

}  // namespace reverie
