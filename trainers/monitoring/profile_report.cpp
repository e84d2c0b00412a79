#include "trainers/monitoring/profile_report.h"

#include <fmt/format.h>
#include <omp.h>

#include <algorithm>
#include <chrono>
#include <map>
#include <nlohmann/json.hpp>

#include "core/files.h"
#include "core/json.h"
#include "core/log.h"
#include "core/storage.h"
#include "kernels/elementwise.h"
#include "kernels/kernel.h"
#include "kernels/matmul.h"

namespace reverie {
namespace {

using profile::Event;
using profile::Kind;

// The shortest of several calls: a ceiling is what the machine can do.
template <class F>
double shortest(int times, const F& f) {
  double best = 1e30;
  for (int i = 0; i <= times; ++i) {  // the first one fills caches and allocates
    const auto begin = std::chrono::steady_clock::now();
    f();
    const double t =
        std::chrono::duration<double>(std::chrono::steady_clock::now() - begin).count();
    if (i > 0) best = std::min(best, t);
  }
  return best;
}

double product_rate(DType dtype) {
  constexpr int64_t n = 1024;
  const Tensor a = Tensor::full({n, n}, 1, dtype), b = Tensor::full({n, n}, 1, dtype);
  Tensor c = Tensor::empty({n, n}, DType::f32);
  return 2.0 * n * n * n / shortest(10, [&] { kernel::matmul({}, Matmul{a, b, 1.0, false, c}); });
}

std::vector<ProfileLine> longest_first(const std::map<std::string, ProfileLine>& lines) {
  std::vector<ProfileLine> list;
  for (const auto& [name, line] : lines) list.push_back(line);
  std::stable_sort(list.begin(), list.end(), [](const ProfileLine& a, const ProfileLine& b) {
    return a.seconds > b.seconds;
  });
  return list;
}

void add(ProfileLine& line, const std::string& name, const Event& e) {
  line.name = name;
  ++line.calls;
  line.seconds += e.seconds;
  line.work.flops += e.work.flops;
  line.work.bytes += e.work.bytes;
}

std::string op_name(const Event& e) {
  return fmt::format("{} {}", e.name, e.kind == Kind::forward ? "forward" : "backward");
}

// Where each event lies: the step, the phase and the op around it, or it; by their numbers.
struct EventPlaces {
  static constexpr int kNone = -1;
  std::vector<int> step, phase, op;
  // Kernels that call others, as linear_forward does on the CPU: the others are counted.
  std::vector<bool> by_parts;

  explicit EventPlaces(const std::vector<Event>& events)
      : step(events.size(), kNone),
        phase(events.size(), kNone),
        op(events.size(), kNone),
        by_parts(events.size()) {
    for (size_t i = 0; i < events.size(); ++i) {
      const Event& e = events[i];
      if (e.kind == Kind::kernel && e.parent >= 0) by_parts[size_t(e.parent)] = true;
      if (e.parent >= 0) inherit(i, size_t(e.parent));
      const bool whole_step = e.kind == Kind::step && e.parent < 0;
      if (whole_step) step[i] = int(i);
      if (whole_step || step[i] == kNone) continue;
      if (e.kind == Kind::step) phase[i] = int(i);
      // An op inside another (rematerialisation) is part of the outer one.
      const bool is_op = e.kind == Kind::forward || e.kind == Kind::backward;
      if (is_op && op[i] == kNone) op[i] = int(i);
    }
  }

 private:
  void inherit(size_t i, size_t parent) {
    step[i] = step[parent];
    phase[i] = phase[parent];
    op[i] = op[parent];
  }
};

// The times of kernels, ops and phases, added up by name.
struct ProfileSums {
  std::map<std::string, ProfileLine> kernels, ops, phases;
  std::vector<std::string> phase_order;

  void add_phase(const Event& e) {
    const std::string name(e.name);
    if (!phases.contains(name)) phase_order.push_back(name);
    add(phases[name], name, e);
  }
  void add_op(const Event& e) { add(ops[op_name(e)], op_name(e), e); }
  // `op` and `phase` around it may be null.
  void add_kernel(const Event& e, const Event* op, const Event* phase) {
    add(kernels[std::string(e.name)], std::string(e.name), e);
    if (op) ops[op_name(*op)].kernel_seconds += e.seconds;
    if (phase) phases[std::string(phase->name)].kernel_seconds += e.seconds;
  }
};

bool is_product(std::string_view kernel) {
  return kernel == "matmul" || kernel == "matmul_pair" || kernel == "linear_forward" ||
         kernel == "linear_backward";
}
// Kernels whose products are in bf16 where a run's are.
bool in_bf16(const std::string& kernel) {
  return is_product(kernel) || kernel == "attention_forward" || kernel == "attention_backward";
}

std::string rate(const ProfileLine& l, const Ceilings& c, bool bf16) {
  if (l.seconds <= 0) return "";
  if (l.work.flops > 0) {
    const bool low = bf16 && in_bf16(l.name) && c.bf16_gemm_flops > 0;
    const double flops = l.work.flops / l.seconds, most = low ? c.bf16_gemm_flops : c.gemm_flops;
    return fmt::format("{:7.1f} GFLOP/s {:4.0f} % of {}", flops / 1e9, 100 * flops / most,
                       low ? "bf16 GEMM" : "f32 GEMM");
  }
  if (l.work.bytes > 0) {
    const double bytes = l.work.bytes / l.seconds;
    return fmt::format("{:7.1f} GB/s    {:4.0f} % of copying", bytes / 1e9, 100 * bytes / c.bytes);
  }
  return "";
}

}  // namespace

Ceilings measure_ceilings() {
  Ceilings c;
  c.gemm_flops = product_rate(DType::f32);
  if (has_bf16_dot_products()) c.bf16_gemm_flops = product_rate(DType::bf16);
  constexpr int64_t count = 16 << 20;
  const Tensor x = Tensor::full({count}, 1, DType::f32);
  Tensor y = Tensor::full({count}, 1, DType::f32);
  // Two arrays are read and one is written.
  c.bytes = 3.0 * 4.0 * double(count) / shortest(5, [&] {
              kernel::accumulate({}, Accumulate{x, 1.0, y});
            });
  return c;
}

ProfileSummary summarise(const std::vector<Event>& events) {
  ProfileSummary s;
  ProfileSums sums;
  const EventPlaces places(events);
  const auto at = [&](int number) {
    return number == EventPlaces::kNone ? nullptr : &events[size_t(number)];
  };
  for (size_t i = 0; i < events.size(); ++i) {
    const Event& e = events[i];
    if (e.kind == Kind::step && e.parent < 0) {
      ++s.steps;
      s.seconds += e.seconds;
    } else if (places.step[i] == EventPlaces::kNone) {
      continue;
    } else if (e.kind == Kind::step) {
      sums.add_phase(e);
    } else if (e.kind != Kind::kernel) {
      if (places.op[i] == int(i)) sums.add_op(e);
    } else if (!places.by_parts[i]) {
      sums.add_kernel(e, at(places.op[i]), at(places.phase[i]));
      s.kernel_seconds += e.seconds;
      if (is_product(e.name)) s.product_seconds += e.seconds;
    }
  }
  for (const std::string& name : sums.phase_order) {
    s.phases.push_back(sums.phases[name]);
    if (name == "forward" || name == "backward")
      s.tape_seconds += sums.phases[name].seconds - sums.phases[name].kernel_seconds;
  }
  s.kernels = longest_first(sums.kernels);
  s.ops = longest_first(sums.ops);
  return s;
}

std::string profile_table(const ProfileSummary& s, const Ceilings& c, bool bf16) {
  const double steps = double(std::max<int64_t>(1, s.steps)), whole = std::max(s.seconds, 1e-12);
  const auto milliseconds = [&](double seconds) { return 1e3 * seconds / steps; };
  const auto share = [&](double seconds) { return 100 * seconds / whole; };
  std::string t =
      fmt::format("{:.2f} ms a step, over {} steps; {} threads, {}, {}\n", milliseconds(s.seconds),
                  s.steps, omp_get_max_threads(), name_of(active_isa()), matmul_library());
  t += fmt::format(
      "ceilings measured now: f32 GEMM {:.0f} GFLOP/s{}, memory {:.1f} GB/s\n", c.gemm_flops / 1e9,
      c.bf16_gemm_flops > 0 ? fmt::format(", bf16 GEMM {:.0f} GFLOP/s", c.bf16_gemm_flops / 1e9)
                            : "",
      c.bytes / 1e9);
  t += fmt::format("GEMM {:.1f} %, other kernels {:.1f} %, tape and allocation {:.1f} %\n\n",
                   share(s.product_seconds), share(s.kernel_seconds - s.product_seconds),
                   share(s.tape_seconds));
  t += fmt::format("{:<30}{:>10}{:>8}\n", "phase", "ms/step", "share");
  for (const ProfileLine& l : s.phases)
    t += fmt::format("{:<30}{:>10.3f}{:>6.1f} %\n", l.name, milliseconds(l.seconds),
                     share(l.seconds));
  t += fmt::format("\n{:<30}{:>10}{:>8}{:>8}   {}\n", "kernel", "ms/step", "share", "calls",
                   "rate (bytes: each argument counted once)");
  for (const ProfileLine& l : s.kernels)
    t += fmt::format("{:<30}{:>10.3f}{:>6.1f} %{:>8.0f}   {}\n", l.name, milliseconds(l.seconds),
                     share(l.seconds), double(l.calls) / steps, rate(l, c, bf16));
  t += fmt::format("\n{:<30}{:>10}{:>8}{:>8}   {}\n", "op", "ms/step", "share", "calls",
                   "outside kernels, ms/step");
  for (const ProfileLine& l : s.ops)
    t += fmt::format("{:<30}{:>10.3f}{:>6.1f} %{:>8.0f}   {:.3f}\n", l.name,
                     milliseconds(l.seconds), share(l.seconds), double(l.calls) / steps,
                     milliseconds(l.seconds - l.kernel_seconds));
  return t;
}

nlohmann::json profile_trace(const std::vector<Event>& events) {
  constexpr const char* kCategories[] = {"step", "forward", "backward", "kernel"};
  nlohmann::json list = nlohmann::json::array();
  for (const Event& e : events) {
    nlohmann::json j = {{"name", e.kind == Kind::backward ? std::string(e.name) + " backward"
                                                          : std::string(e.name)},
                        {"cat", kCategories[size_t(e.kind)]},
                        {"ph", "X"},
                        {"ts", e.begin * 1e6},
                        {"dur", e.seconds * 1e6},
                        {"pid", 1},
                        {"tid", e.thread}};
    if (e.work.flops > 0) j["args"]["GFLOP/s"] = e.work.flops / e.seconds / 1e9;
    if (e.work.bytes > 0) j["args"]["GB/s"] = e.work.bytes / e.seconds / 1e9;
    list.push_back(std::move(j));
  }
  return {{"traceEvents", list}, {"displayTimeUnit", "ms"}};
}

std::string memory_line(size_t tensors, const Plan& planned) {
  constexpr double kMebibyte = 1 << 20;
  std::string line = fmt::format("\nmemory at the peak of a step: {:.1f} MiB of tensors",
                                 double(tensors) / kMebibyte);
  // On the CPU they stay in their file.
  const bool in_file = planned.device == "cpu" && planned.frozen_bytes > 0;
  if (in_file)
    line += fmt::format(" and {:.1f} MiB of frozen weights", planned.frozen_bytes / kMebibyte);
  const double taken = double(tensors) + (in_file ? planned.frozen_bytes : 0);
  return line + fmt::format("; planned: {:.1f} MiB, {:.3f} of it\n", planned.peak_bytes / kMebibyte,
                            planned.peak_bytes / taken);
}

void ProfileCallback::on_start(const RunView& t, int64_t first_step) {
  constexpr int64_t kWarmUp = 5;
  const int64_t left = t.options().train.steps - first_step;
  require(left > steps_,
          "--profile {}: {} steps are left in this run, but profiling needs at least one more "
          "step than it profiles, to warm up",
          steps_, left);
  begin_ = first_step + std::min(kWarmUp, left - steps_);
}
void ProfileCallback::on_step(const RunView& t, const StepInfo& s) {
  Allocator& memory = allocator(t.options().tensor_device());
  if (s.step > begin_) peak_ = std::max(peak_, memory.stats().peak);
  if (s.step >= begin_) memory.reset_peak();
  if (s.step == begin_) profile::start();
  if (s.step != begin_ + steps_) return;
  const std::vector<Event> events = profile::stop();
  const std::string table = profile_table(summarise(events), measure_ceilings(),
                                          t.options().matmul_precision() == MatmulPrecision::bf16) +
                            memory_line(peak_, planned_);
  const std::string directory = t.run_directory();
  write_file_atomically(directory + "/profile.txt", table);
  write_file_atomically(directory + "/profile_trace.json", json_text(profile_trace(events)) + "\n");
  log_info("profile of steps {}..{}:\n{}", begin_ + 1, s.step, table);
  log_info("{0}/profile.txt, {0}/profile_trace.json (open it at ui.perfetto.dev)", directory);
}
// What they took is not the step's.
void ProfileCallback::on_evaluation(const RunView& t, const EvaluationInfo&) {
  allocator(t.options().tensor_device()).reset_peak();
}
void ProfileCallback::on_sample(const RunView& t, int64_t, const std::string&) {
  allocator(t.options().tensor_device()).reset_peak();
}
void ProfileCallback::on_end(const RunView&) {
  profile::stop();  // of a run that was stopped on the way
}

}  // namespace reverie
