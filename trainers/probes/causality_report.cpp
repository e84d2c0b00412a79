#include <algorithm>
#include <nlohmann/json.hpp>

#include "core/error.h"
#include "trainers/probes/causality.h"

namespace reverie {

bool CausalityReport::causal() const {
  return !probes.empty() &&
         std::all_of(probes.begin(), probes.end(), [](const Probe& p) { return p.ok; });
}

bool CausalityReport::beyond_rounding() const {
  return std::any_of(probes.begin(), probes.end(), [](const Probe& p) {
    return p.leak && p.offered && !(p.change <= p.rounding);
  });
}

Verdict CausalityReport::verdict(int64_t step) const {
  Verdict v;
  for (const Probe& p : probes) {
    const std::string name = p.name + ", redrawn or trained copy, " + subject;
    if (p.offered)
      v.add({name, p.where, p.change, p.tolerance, step});
    else
      v.add_not_probed(p.name + " (" + p.where + ")");
  }
  return v;
}

Json CausalityReport::json() const {
  Json list = Json::array();
  for (const Probe& p : probes)
    list.push_back({{"name", p.name},
                    {"ok", p.ok},
                    {"change", p.change},
                    {"tolerance", p.tolerance},
                    {"rounding", p.rounding},
                    {"future", p.future},
                    {"leak", p.leak},
                    {"where", p.where}});
  return {{"causal", causal()},
          {"max_future_logit_change", max_future_logit_change},
          {"worst", worst},
          {"subject", subject},
          {"probes", list}};
}

std::string CausalityReport::text() const {
  size_t width = 5;
  for (const Probe& p : probes) width = std::max(width, p.name.size());
  std::string out = subject + "\n";
  out += fmt::format("{:<{}}  {:>9}  {:>9}         where\n", "probe", width, "change", "allowed");
  bool leaks = false;
  for (const Probe& p : probes) {
    if (!p.offered) {
      out += fmt::format("{:<{}}  {:>9}  {:>9}  {:<6} {}\n", p.name, width, "-", "-", "-", p.where);
      continue;
    }
    out += fmt::format("{:<{}}  {:>9.2g}  {:>9.2g}  {:<6} {}\n", p.name, width, p.change,
                       p.tolerance, p.ok ? "ok" : "FAILED", p.where);
    leaks = leaks || (!p.ok && p.leak);
  }
  return out + (causal() ? "causal: " : leaks ? std::string(kLeakLabel) + ": " : "FAILS: ") + worst;
}

}  // namespace reverie
