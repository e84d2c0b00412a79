#include "op_cases.h"

#include "autograd/node.h"

namespace reverie::testing {
namespace {

std::vector<void (*)(OpCases&)>& files() {
  static std::vector<void (*)(OpCases&)> all;
  return all;
}
OpCases collected() {
  OpCases all;
  for (auto* cases : files()) cases(all);
  return all;
}

}  // namespace

void OpCases::add(const std::string& name, const std::vector<Shape>& shapes,
                  const MultiFunction& function, const GradcheckOptions& options) {
  std::vector<Tensor> inputs;
  for (const Shape& s : shapes) inputs.push_back(normal(s, 100 + inputs.size()));
  cases.push_back({name, std::move(inputs), function, options});
}
void OpCases::refuses(const std::string& op, const std::string& words,
                      const std::function<void()>& call) {
  refusals.push_back({op, words, call});
}

OpCaseFile::OpCaseFile(void (*cases)(OpCases&)) {
  files().push_back(cases);
}

std::vector<OpCase> op_cases() {
  return collected().cases;
}
std::vector<OpRefusal> op_refusals() {
  return collected().refusals;
}

std::set<std::string> ops_below(const Variables& outputs) {
  std::set<std::string> names;
  std::set<const Node*> seen;
  std::vector<const Node*> todo;
  const auto visit = [&](const std::shared_ptr<Node>& n) {
    if (n && seen.insert(n.get()).second) todo.push_back(n.get());
  };
  for (const Variable& v : outputs) visit(v.impl()->producer);
  while (!todo.empty()) {
    const Node* n = todo.back();
    todo.pop_back();
    names.emplace(n->name());
    for (const Edge& e : n->edges) visit(e.node);
  }
  return names;
}

}  // namespace reverie::testing
