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
  // Probes of one site stand under it: a line with the site in it would be wider than a terminal.
  size_t width = 5;
  for (const Probe& p : probes) width = std::max(width, p.name.size());
  const auto line = [&](const std::string& name, const std::string& change,
                        const std::string& allowed, const char* result) {
    return fmt::format("  {:<{}}  {:>7}  {:>7}{}{}\n", name, width, change, allowed,
                       *result ? "  " : "", result);
  };
  std::string out = subject + "\n" + line("probe", "change", "allowed", ""), site;
  bool leaks = false;
  for (const Probe& p : probes) {
    if (p.site != site) out += (site = p.site) + "\n";
    if (!p.offered) {
      out += line(p.name, "-", "-", "-");
      continue;
    }
    out += line(p.name, fmt::format("{:.2g}", p.change), fmt::format("{:.2g}", p.tolerance),
                p.ok ? "ok" : "FAILED");
    if (!p.ok) out += "    at " + p.where + "\n";
    leaks = leaks || (!p.ok && p.leak);
  }
  return out + (causal() ? "causal: " : leaks ? std::string(kLeakLabel) + ": " : "FAILS: ") + worst;
}

}  // namespace reverie
