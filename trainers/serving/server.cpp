#include "trainers/serving/server.h"

#include <unistd.h>

#include <chrono>
#include <cstdio>
#include <memory>
#include <nlohmann/json.hpp>

#include "core/config.h"
#include "core/error.h"
#include "core/json.h"
#include "core/log.h"
#include "core/signals.h"
#include "trainers/serving/completion_answer.h"
#include "trainers/serving/tokenizer_answers.h"
#include "trainers/text/terminal.h"

namespace reverie {
namespace {

// Seconds for connections that send nothing, once all answers are written.
constexpr double kPatience = 15;

HttpAnswer answer_of(const Json& json) {
  return {200, json_text_replacing(json)};
}

int64_t seconds_now() {
  return std::chrono::duration_cast<std::chrono::seconds>(
             std::chrono::system_clock::now().time_since_epoch())
      .count();
}

Json model_entry(const ServedName& name, const ServedModel& model, int64_t since) {
  return {{"id", name.id},
          {"object", "model"},
          {"created", since},
          {"owned_by", "reverie"},
          {"root", name.description},
          {"max_model_len", model.context() - (name.latents ? model.latent_rows() : 0)},
          {"reverie", verdict_beside(name, model)}};
}

std::string event(const Json& json) {
  return "data: " + json_text_replacing(json) + "\n\n";
}

// Every piece as it comes, then [DONE]; or the error that ended it.
void write_events(const std::shared_ptr<Completion>& completion, const ServedModel& model,
                  const WriteMore& write) {
  CompletionAnswer answer(completion->request, model);
  for (auto pieces = completion->next(); !pieces.empty(); pieces = completion->next())
    for (const Piece& piece : pieces)
      if (!write(event(answer.chunk(piece)))) return completion->abandon();
  const auto refusal = completion->refusal();
  if (refusal) write("data: " + http_error(refusal->status, refusal->message).body + "\n\n");
  write("data: [DONE]\n\n");
}

class Routes {
 public:
  Routes(ServedModel& model, const ServeOptions& options, ModelWorker& worker)
      : model_(model), options_(options), worker_(worker), since_(seconds_now()) {}

  void add_to(HttpServer& http) {
    http.get("/health", [](const std::string&) {
      return requested_signal() ? http_error(503, "the server is ending")
                                : answer_of({{"status", "ok"}});
    });
    http.get("/v1/models", [this](const std::string&) { return models(); });
    http.get("/v1/models/.+", [this](const std::string& path) {
      const std::string id = path.substr(std::string("/v1/models/").size());
      const ServedName* name = model_.find(id);
      return name ? answer_of(model_entry(*name, model_, since_))
                  : http_error(404, fmt::format("there is no model {}", id));
    });
    http.get("/tokenizer_info",
             [this](const std::string&) { return answer_of(tokenizer_info(model_)); });
    http.post("/tokenize",
              [this](const std::string& body) { return answer_of(tokenize(body, model_)); });
    http.post("/detokenize",
              [this](const std::string& body) { return answer_of(detokenize(body, model_)); });
    http.post("/v1/completions", [this](const std::string& body) { return completions(body); });
  }

 private:
  HttpAnswer models() const {
    Json list = Json::array();
    for (const ServedName& name : model_.names()) list.push_back(model_entry(name, model_, since_));
    return answer_of({{"object", "list"}, {"data", list}});
  }

  HttpAnswer completions(const std::string& body) {
    std::shared_ptr<Completion> completion;
    try {
      completion = std::make_shared<Completion>(
          parse_completion_request(body, model_, options_.requests),
          Completion::Clock::now() + std::chrono::duration_cast<Completion::Clock::duration>(
                                         std::chrono::duration<double>(options_.time_limit)));
    } catch (const UnknownModel& e) {
      return http_error(404, e.what());
    }
    if (!worker_.submit(completion)) return refused(*completion);
    if (completion->request.stream)
      return {200, "", [completion, this](const WriteMore& write) {
                write_events(completion, model_, write);
              }};
    CompletionAnswer answer(completion->request, model_);
    for (auto pieces = completion->next(); !pieces.empty(); pieces = completion->next())
      for (const Piece& piece : pieces) answer.add(piece);
    return completion->refusal() ? refused(*completion) : answer_of(answer.whole());
  }

  static HttpAnswer refused(const Completion& completion) {
    const Refusal refusal = completion.refusal().value();
    return http_error(refusal.status, refusal.message);
  }

  ServedModel& model_;
  const ServeOptions& options_;
  ModelWorker& worker_;
  int64_t since_;
};

void print_start(const ServedModel& model, const ServeOptions& options, int port) {
  std::string out;
  for (const ServedName& name : model.names()) {
    out += fmt::format("model {}{}\n  {}\n  {}\n", name.id, name.verdict.mark(), name.description,
                       name.verdict.line());
    if (!name.latents) continue;
    out += fmt::format(
        "  {} latents{}{}; a scored prompt has them {}\n", model.latent_rows(),
        model.latents_late() > 0 ? fmt::format(" that arrive {} tokens late", model.latents_late())
                                 : "",
        model.latents_every() > 0
            ? fmt::format(", made anew after every {} tokens of an answer", model.latents_every())
            : "",
        options.requests.latents_behind.empty()
            ? "where the request says (latents_after)"
            : fmt::format("behind its last \"{}\"", options.requests.latents_behind));
  }
  const bool loopback =
      options.host == "localhost" || options.host == "::1" || options.host.starts_with("127.");
  out += fmt::format("listening on http://{}:{} ({})\n", options.host, port,
                     loopback ? "this machine alone; --host 0.0.0.0 lets others in"
                              : "other machines may use it, and there is no password");
  fmt::print("{}", fit_terminal(STDOUT_FILENO, out));
  std::fflush(stdout);
}

}  // namespace

int serve(ServedModel& model, const ServeOptions& options) {
  ModelWorker worker(model, options.worker);
  Routes routes(model, options, worker);
  auto http = std::make_unique<HttpServer>(options.http);
  routes.add_to(*http);
  const int port = http->bind(options.host, options.port);
  const SignalGuard signals;
  http->start();
  print_start(model, options, port);
  worker.run([] { return requested_signal() != 0; });
  if (!http->finish(kPatience)) {
    log_warning("a connection stays open without a request; leaving it");
    std::fflush(nullptr);
    ::_exit(128 + requested_signal());
  }
  return requested_signal();
}

}  // namespace reverie
