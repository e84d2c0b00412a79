#pragma once
/// HTTP for a few paths: what is sent for a body is limited, every request has a connection of its
/// own, and whatever goes wrong is an answer in the form of OpenAI's errors.

#include <cstdint>
#include <functional>
#include <memory>
#include <string>

#include "trainers/serving/http_answer.h"

namespace reverie {

struct HttpLimits {
  int64_t body_bytes = int64_t(8) << 20;
  int64_t connections = 256;   ///< requests at once; others wait to be read
  double upload_seconds = 30;  ///< for the whole body
};

class HttpServer {
 public:
  explicit HttpServer(const HttpLimits& limits);
  ~HttpServer();
  HttpServer(const HttpServer&) = delete;
  HttpServer& operator=(const HttpServer&) = delete;

  /// `path` is a regular expression. Handlers run on the connections' threads. A UserError that
  /// leaves one is a 400 with its message, any other exception a 500.
  void get(const std::string& path, std::function<HttpAnswer(const std::string& path)> handler);
  void post(const std::string& path, std::function<HttpAnswer(const std::string& body)> handler);

  /// port 0: any that is free. -> the port. UserError where it cannot be had.
  int bind(const std::string& host, int port);
  void start();
  /// Waits until every request that was read has its answer, and stops. False: a connection is still
  /// open after `patience_seconds` more, so that its thread cannot be joined.
  bool finish(double patience_seconds);

 private:
  struct Inside;
  std::unique_ptr<Inside> inside_;
};

}  // namespace reverie
