#include "layers/module.h"

#include <map>

#include "core/config.h"
#include "core/error.h"

namespace reverie {

Variable Module::parameter(std::string name, Tensor initial) {
  Variable v(std::move(initial), true);
  entries_.push_back({std::move(name), v, nullptr});
  return v;
}
Module& Module::adopt(std::string name, std::unique_ptr<Module> module) {
  entries_.push_back({std::move(name), {}, std::move(module)});
  return *entries_.back().module;
}
void Module::collect(const std::string& prefix,
                     std::vector<std::pair<std::string, Variable>>& out) const {
  for (const Entry& e : entries_) {
    const std::string name = prefix.empty()   ? e.name
                             : e.name.empty() ? prefix
                                              : prefix + "." + e.name;
    if (e.module)
      e.module->collect(name, out);
    else
      out.emplace_back(name, e.variable);
  }
}
std::vector<std::pair<std::string, Variable>> Module::parameters() const {
  std::vector<std::pair<std::string, Variable>> out;
  collect("", out);
  return out;
}
int64_t Module::parameter_count() const {
  int64_t n = 0;
  for (const auto& [name, v] : parameters()) n += v.tensor().numel();
  return n;
}
void Module::freeze(bool frozen) {
  for (auto& [name, v] : parameters()) v.set_requires_grad(!frozen);
}
void Module::train(bool on) {
  training_ = on;
  for (const Entry& e : entries_)
    if (e.module) e.module->train(on);
}
NamedTensors Module::state() const {
  NamedTensors out;
  for (const auto& [name, v] : parameters()) out.emplace_back(name, v.tensor());
  return out;
}
void Module::load(const NamedTensors& tensors, bool strict) {
  std::map<std::string, const Tensor*> given;
  for (const auto& [name, t] : tensors) given[name] = &t;
  std::string problems;
  std::vector<std::pair<Variable, const Tensor*>> copies;
  for (auto& [name, v] : parameters()) {
    const auto it = given.find(name);
    if (it == given.end()) {
      problems += fmt::format("\n  missing: {} {}", name, v.tensor().str());
      continue;
    }
    if (it->second->shape() == v.shape())
      copies.emplace_back(v, it->second);
    else
      problems += fmt::format("\n  wrong shape: {} is {}, the model wants {}", name,
                              it->second->shape().str(), v.shape().str());
    given.erase(it);
  }
  if (strict)
    for (const auto& [name, t] : given)
      problems += fmt::format("\n  unexpected: {} {}", name, t->str());
  if (!problems.empty()) throw UserError("these tensors do not fit the model:" + problems);
  for (auto& [v, t] : copies) {
    Tensor target = v.tensor();
    target.copy_from(*t);
  }
}

}  // namespace reverie
