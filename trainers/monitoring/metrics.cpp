#include "trainers/monitoring/metrics.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <filesystem>
#include <limits>
#include <system_error>

#include "core/error.h"
#include "core/files.h"
#include "core/json.h"
#include "core/log.h"

namespace reverie {
namespace {

std::string metrics_file(const std::string& run_dir) {
  return run_dir + "/metrics.jsonl";
}

// Bytes of text that are not UTF-8 become U+FFFD: a byte-level tokenizer may cut a character in
// two.
std::string one_line(const Json& event) {
  return json_text_replacing(event) + '\n';
}

std::vector<Json> parse_lines(const std::string& file, const std::string& bytes) {
  std::vector<Json> events;
  size_t line = 0;
  for (size_t begin = 0, end; (end = bytes.find('\n', begin)) != std::string::npos;
       begin = end + 1) {
    ++line;
    Json event = parse_json_or_discard(std::string_view(bytes).substr(begin, end - begin));
    if (!event.is_object() || !event.contains("event") || !event["event"].is_string() ||
        !event.contains("step") || !event["step"].is_number_integer())
      throw DataError(
          fmt::format("{}:{} is no event, wanted {{\"event\": NAME, \"step\": N, ...}}; delete "
                      "that line to continue without it",
                      file, line));
    events.push_back(std::move(event));
  }
  return events;
}

}  // namespace

MetricsLog::MetricsLog(const std::string& run_dir, std::optional<int64_t> resume_step,
                       bool repeats_evaluation)
    : file_(metrics_file(run_dir)) {
  const auto comes_again = [&](const Json& event) {
    const auto step = event["step"].get<int64_t>();
    const bool evaluates = event["event"] == "eval" || event["event"] == "sample";
    return step > *resume_step || (step == *resume_step && repeats_evaluation && evaluates);
  };
  std::string kept;
  if (resume_step)
    for (const Json& event : read_metrics(run_dir))
      if (!comes_again(event)) kept += one_line(event);
  replace(kept);
}

void MetricsLog::relabel(const std::function<std::string(int64_t step)>& label_of) {
  std::string lines;
  for (Json event : read_metrics(std::filesystem::path(file_).parent_path().string())) {
    if (const std::string label = label_of(event["step"].get<int64_t>()); !label.empty())
      event["label"] = label;
    lines += one_line(event);
  }
  replace(lines);
}

void MetricsLog::replace(const std::string& contents) {
  // As a whole, so that a kill here leaves the old file or the new one.
  write_file_atomically(file_, contents);
  if (descriptor_ >= 0) ::close(descriptor_);
  descriptor_ = ::open(file_.c_str(), O_WRONLY | O_APPEND | O_CLOEXEC);
  if (descriptor_ < 0)
    throw MachineError(
        fmt::format("cannot open {}: {}", file_, std::generic_category().message(errno)));
}

MetricsLog::~MetricsLog() {
  if (descriptor_ >= 0) ::close(descriptor_);
}

void MetricsLog::train(const TrainMetrics& m) {
  append({{"event", "train"},
          {"step", m.step},
          {"loss", m.loss},
          {"learning_rate", m.learning_rate},
          {"gradient_norm", m.gradient_norm},
          {"tokens", m.tokens},
          {"tokens_per_second", m.tokens_per_second},
          {"seconds", m.seconds}});
}

void MetricsLog::eval(const EvalMetrics& m) {
  Json event = {{"event", "eval"},
                {"step", m.step},
                {"train_loss", m.train_loss},
                {"val_loss", m.val_loss},
                {"val_loss_prefix_only", m.val_loss_prefix_only}};
  if (m.val_loss_carried) event["val_loss_carried"] = *m.val_loss_carried;
  if (m.val_loss_on_carried_windows)
    event["val_loss_on_carried_windows"] = *m.val_loss_on_carried_windows;
  if (!m.val_loss_by_entry.is_null()) event["val_loss_by_entry"] = m.val_loss_by_entry;
  if (!m.augmented.is_null()) event["augmented"] = m.augmented;
  append(std::move(event));
}

void MetricsLog::sample(int64_t step, const std::string& text) {
  append({{"event", "sample"}, {"step", step}, {"text", text}});
}

void MetricsLog::append(Json event) {
  if (!event.is_object() || !event.contains("event") || !event.contains("step"))
    throw InternalError("a metrics event needs \"event\" and \"step\"");
  if (!label_.empty()) event["label"] = label_;
  const std::string line = one_line(event);
  if (struct stat now{}; ::fstat(descriptor_, &now) == 0 && now.st_nlink == 0 &&
                         !std::filesystem::exists(file_) &&
                         std::filesystem::exists(std::filesystem::path(file_).parent_path())) {
    log_warning("{} was removed under the run: a new one begins at step {}", file_,
                event["step"].get<int64_t>());
    replace("");
  }
  const off_t before = ::lseek(descriptor_, 0, SEEK_END);
  ssize_t written;
  do written = ::write(descriptor_, line.data(), line.size());
  while (written < 0 && errno == EINTR);
  if (written == ssize_t(line.size())) return;
  const int error = written < 0 ? errno : ENOSPC;
  // Part of a line would spoil the next one.
  const bool undone = written <= 0 || ::ftruncate(descriptor_, before) == 0;
  throw MachineError(fmt::format("cannot write {}: {}{}", file_,
                                 std::generic_category().message(error),
                                 undone ? "" : " (its last line is torn)"));
}

std::vector<Json> read_metrics(const std::string& run_dir) {
  const std::string file = metrics_file(run_dir);
  if (!std::filesystem::exists(file)) return {};
  return parse_lines(file, read_file(file));
}

double metric_value(const Json& event, const std::string& key) {
  const auto found = event.find(key);
  if (found == event.end() || !found->is_number()) return std::numeric_limits<double>::quiet_NaN();
  return found->get<double>();
}

}  // namespace reverie
