#pragma once
/// An OpenAI-compatible server of one model: docs/serving.md.

#include <string>

#include "trainers/serving/completion_request.h"
#include "trainers/serving/http_server.h"
#include "trainers/serving/model_worker.h"

namespace reverie {

struct ServeOptions {
  std::string host = "127.0.0.1";
  int port = 8000;          ///< 0: any that is free
  double time_limit = 600;  ///< seconds from a request's arrival to its last token
  RequestLimits requests = {};
  WorkerLimits worker = {};
  HttpLimits http = {};
};

/// Serves until a signal asks it to end; then finishes what was begun. Prints to stdout what is
/// served, with its verdict, and where. -> the signal. The calling thread is the one that uses the
/// model.
int serve(ServedModel& model, const ServeOptions& options);

}  // namespace reverie
