#include "trainers/runs/verdict.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <nlohmann/json.hpp>
#include <tuple>

#include "core/error.h"
#include "core/json.h"
#include "trainers/distributed/communicator.h"

namespace reverie {
namespace {

template <class T>
void insert_sorted(std::vector<T>& list, const T& value) {
  const auto at = std::lower_bound(list.begin(), list.end(), value);
  if (at == list.end() || *at != value) list.insert(at, value);
}

double ratio(const Movement& m) {
  if (m.change == 0) return 0;
  return m.allowed > 0 ? m.change / m.allowed : INFINITY;
}

// JSON has no infinity.
Json number(double value) {
  return std::isfinite(value) ? Json(value) : Json();
}
double number_at(const Json& json, const char* key) {
  const Json& value = json.at(key);
  return value.is_null() ? INFINITY : value.get<double>();
}

Json movement_json(const std::optional<Movement>& m) {
  if (!m) return nullptr;
  return {{"probe", m->probe},
          {"where", m->where},
          {"change", number(m->change)},
          {"allowed", number(m->allowed)},
          {"step", m->step}};
}
std::optional<Movement> movement_from(const Json& json) {
  if (json.is_null()) return std::nullopt;
  return Movement{json.at("probe"), json.at("where"), number_at(json, "change"),
                  number_at(json, "allowed"), json.at("step")};
}

// A total order, so that merging keeps the same one whatever comes first.
bool before(const Movement& a, const Movement& b) {
  return std::tie(a.step, a.probe, a.where, a.change, a.allowed) <
         std::tie(b.step, b.probe, b.where, b.change, b.allowed);
}

std::string described(const Movement& m) {
  return fmt::format("{}: moved by {:.3g}, rounding allows {:.2g} ({})", m.probe, m.change,
                     m.allowed, m.where);
}

}  // namespace

bool Movement::graver_than(const Movement& other) const {
  if (leaks() != other.leaks()) return leaks();
  const double mine = ratio(*this), its = ratio(other);
  if (mine != its) return mine > its;
  if (change != other.change) return change > other.change;
  return before(*this, other);
}

void Verdict::add(const Movement& given) {
  Movement movement = given;
  if (std::isnan(movement.change)) movement.change = INFINITY;
  insert_sorted(steps_, movement.step);
  insert_sorted(probed_, movement.probe);
  std::erase(not_probed_, movement.probe);
  if (!largest_ || movement.graver_than(*largest_)) largest_ = movement;
  if (!movement.leaks()) return;
  if (!first_leak_ || movement.step < first_leak_->step ||
      (movement.step == first_leak_->step && movement.graver_than(*first_leak_)))
    first_leak_ = movement;
}

void Verdict::add_not_probed(const std::string& what) {
  if (!std::binary_search(probed_.begin(), probed_.end(), what)) insert_sorted(not_probed_, what);
}

void Verdict::merge(const Verdict& other) {
  if (other.largest_) add(*other.largest_);
  if (other.first_leak_) add(*other.first_leak_);
  for (const int64_t step : other.steps_) insert_sorted(steps_, step);
  for (const std::string& probe : other.probed_) insert_sorted(probed_, probe);
  for (const std::string& probe : other.probed_) std::erase(not_probed_, probe);
  for (const std::string& what : other.not_probed_) add_not_probed(what);
  set_shrunk(other.shrunk_by_);
}

void Verdict::set_shrunk(int64_t by) {
  shrunk_by_ = std::max(shrunk_by_, by);
}
std::string Verdict::shrunk_label() const {
  return shrunk_by_ == 1 ? "" : fmt::format("shrunk by {}", shrunk_by_);
}
std::string Verdict::label() const {
  if (!leaks()) return shrunk_label();
  return shrunk_by_ == 1 ? kLeakLabel : fmt::format("{}, {}", kLeakLabel, shrunk_label());
}
std::string Verdict::word() const {
  if (leaks()) return label();
  const char* known = asked() ? "causal" : "unknown";
  return shrunk_by_ == 1 ? known : fmt::format("{}, {}", known, shrunk_label());
}

std::string Verdict::label_at(int64_t step) const {
  if (!leaks() || step >= first_leak_->step) return label();
  return fmt::format("{} (unknown before step {})", label(), first_leak_->step);
}

std::string Verdict::line() const {
  std::string out = shrunk_by_ == 1 ? "" : shrunk_label() + "; ";
  if (leaks()) {
    out += fmt::format("{}: {}; found at step {}", kLeakLabel, described(*first_leak_),
                       first_leak_->step);
    if (first_leak_->step > 0) out += fmt::format(", unknown before step {}", first_leak_->step);
    return out;
  }
  if (!asked()) return out + "unknown: nothing was probed";
  out += fmt::format("causal: probed at {} step{} ({} to {})", steps_.size(),
                     steps_.size() == 1 ? "" : "s", steps_.front(), steps_.back());
  if (largest_)
    out += largest_->change == 0
               ? ", nothing moved"
               : fmt::format("; most: {}, step {}", described(*largest_), largest_->step);
  if (!not_probed_.empty()) {
    out += "; not probed: ";
    for (size_t i = 0; i < not_probed_.size(); ++i) out += (i ? ", " : "") + not_probed_[i];
  }
  return out;
}

Json Verdict::json() const {
  Json out = {{"state", leaks()   ? "leaks"
                        : asked() ? "causal"
                                  : "unknown"},
              {"steps", steps_},
              {"probed", probed_},
              {"not_probed", not_probed_},
              {"largest_movement", movement_json(largest_)},
              {"first_leak", movement_json(first_leak_)}};
  if (shrunk_by_ != 1) out["shrunk_by"] = shrunk_by_;
  return out;
}

Verdict Verdict::from_json(const Json& json) {
  Verdict v;
  try {
    v.largest_ = movement_from(json.at("largest_movement"));
    v.first_leak_ = movement_from(json.at("first_leak"));
    for (const int64_t step : json.at("steps").get<std::vector<int64_t>>())
      insert_sorted(v.steps_, step);
    for (const auto& probe : json.at("probed").get<std::vector<std::string>>())
      insert_sorted(v.probed_, probe);
    for (const auto& what : json.at("not_probed").get<std::vector<std::string>>())
      v.add_not_probed(what);
    v.set_shrunk(json.value("shrunk_by", int64_t(1)));
    const std::string state = json.at("state");
    if (state != v.json().at("state").get<std::string>())
      throw DataError(fmt::format("a verdict says \"{}\", and its probes \"{}\"", state,
                                  v.json().at("state").get<std::string>()));
  } catch (const Json::exception& e) {
    throw DataError(fmt::format("this is no verdict: {}", e.what()));
  }
  return v;
}

Verdict Verdict::of_file(const Json& object) {
  if (object.contains("verdict")) return from_json(object.at("verdict"));
  Verdict v;
  const bool labelled = object.contains("label"),
             refuted = object.contains("causal") && object.at("causal") == Json(false);
  if (labelled || refuted)
    v.add({"the causality probe of an earlier version",
           "an earlier version that kept only the "
           "label",
           INFINITY, 0, 0});
  else
    v.add_not_probed("steps of an earlier version, which kept no verdict");
  return v;
}

Verdict agreed_verdict(const Verdict& mine, Communicator& communicator) {
  if (communicator.size() == 1) return mine;
  Verdict all;
  for (const std::string& text : communicator.all_gather(json_text(mine.json())))
    all.merge(Verdict::from_json(parse_json(text)));
  return all;
}

}  // namespace reverie
