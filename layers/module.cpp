#include "layers/module.h"

#include <algorithm>
#include <map>
#include <set>

#include "core/config.h"
#include "core/error.h"
#include "layers/weights_hash.h"

namespace reverie {
namespace {

// Two parameters of one full name: a checkpoint could hold only one of them.
void refuse_taken_names(const Module& owner, const std::string& name, const Module* child) {
  std::set<std::string> taken;
  for (const auto& [known, v] : owner.parameters()) taken.insert(known);
  const auto take = [&](const std::string& full) {
    require(taken.insert(full).second,
            "two parameters are called \"{}\": give each its own name, since a checkpoint stores "
            "parameters by name",
            full);
  };
  if (!child) return take(name);
  const std::string prefix = name.empty() ? "" : name + ".";
  for (const auto& [below, v] : child->parameters()) take(prefix + below);
}

}  // namespace

Variable Module::parameter(std::string name, Tensor initial, ReadBy read_by) {
  refuse_taken_names(*this, name, nullptr);
  Variable v(std::move(initial), true);
  v.set_read_by(read_by);
  entries_.push_back({std::move(name), v, nullptr, false});
  return v;
}
Module& Module::adopt(std::string name, std::unique_ptr<Module> module) {
  refuse_taken_names(*this, name, module.get());
  entries_.push_back({std::move(name), {}, std::move(module), false});
  return *entries_.back().module;
}
void Module::collect(const std::string& prefix,
                     std::vector<std::pair<std::string, Variable>>& out) const {
  for (const Entry& e : entries_) {
    if (e.borrowed) continue;
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
bool Module::trained() const {
  const auto all = parameters();
  return std::any_of(all.begin(), all.end(),
                     [](const auto& named) { return named.second.requires_grad(); });
}
void Module::train(bool on) {
  training_ = on;
  for (const Entry& e : entries_)
    if (e.module) e.module->train(on);
}
void Module::each(const std::function<void(Module&)>& visit) {
  visit(*this);
  for (const Entry& e : entries_)
    if (e.module) e.module->each(visit);
}
void Module::mark_borrowed() {
  for (Entry& e : entries_) {
    if (e.module)
      e.module->mark_borrowed();
    else
      e.borrowed = true;
  }
}
void Module::borrow(const Module& owner) {
  std::map<std::string, Variable> lent;
  for (const auto& [name, v] : owner.parameters()) lent.emplace(name, v);
  const auto mine = parameters();
  for (const auto& [name, v] : mine) {
    const auto it = lent.find(name);
    require(it != lent.end() && it->second.shape() == v.shape() && it->second.dtype() == v.dtype(),
            "{} {} cannot be borrowed: its owner has {}", name, v.tensor(),
            it == lent.end() ? "none" : it->second.tensor().str());
    require(!it->second.requires_grad(),
            "{} is trained by its owner, so it cannot be lent: freeze the owner first", name);
  }
  require(lent.size() == mine.size(), "{} parameters are lent to a module that has {}", lent.size(),
          mine.size());
  for (const auto& [name, v] : mine) {
    Variable(v).set_requires_grad(false);
    Variable(v).set_tensor(lent.at(name).tensor());
  }
  mark_borrowed();
}
std::string Module::weights_hash() const {
  return hash_of_weights(state());
}

NamedTensors Module::state() const {
  NamedTensors out;
  for (const auto& [name, v] : parameters()) out.emplace_back(name, v.tensor());
  return out;
}
void Module::load(const NamedTensors& tensors, bool strict) {
  std::vector<StoredTensor> stored;
  for (const auto& [name, t] : tensors)
    stored.push_back({name, t.shape(), t.dtype(), [t = t] { return t; }});
  load(stored, strict);
}
void Module::load(const std::vector<StoredTensor>& tensors, bool strict) {
  const auto text = [](DType dtype, const Shape& shape) {
    return fmt::format("{}{}", name_of(dtype), shape.str());
  };
  std::map<std::string, const StoredTensor*> given;
  for (const StoredTensor& t : tensors) given[t.name] = &t;
  std::string problems;
  std::vector<std::pair<Variable, const StoredTensor*>> copies;
  for (auto& [name, v] : parameters()) {
    const auto it = given.find(name);
    if (it == given.end()) {
      problems += fmt::format("\n  missing: {} {}", name, text(v.dtype(), v.shape()));
      continue;
    }
    const Shape &has = it->second->shape, &wants = v.shape();
    const bool transposed =
        has.rank() == 2 && wants.rank() == 2 && has[0] == wants[1] && has[1] == wants[0];
    if (has == wants)
      copies.emplace_back(v, it->second);
    else
      problems +=
          fmt::format("\n  {}: {} is {}, the model wants {}",
                      transposed ? "transposed" : "wrong shape", name, has.str(), wants.str());
    given.erase(it);
  }
  if (strict)
    for (const auto& [name, t] : given)
      problems += fmt::format("\n  unexpected: {} {}", name, text(t->dtype, t->shape));
  if (!problems.empty()) throw UserError("these tensors do not fit the model:" + problems);
  for (auto& [v, t] : copies) {
    Tensor target = v.tensor();
    const Tensor source = t->read();
    // The parameter may be these bytes already.
    if (source.shares_storage_with(target) && source.offset() == target.offset() &&
        source.dtype() == target.dtype() && source.strides() == target.strides())
      continue;
    target.copy_from(source);
  }
}

}  // namespace reverie
