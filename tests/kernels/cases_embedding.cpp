#include "kernels/case.h"
#include "kernels/embedding.h"
#include "kernels/refusals.h"

namespace reverie::test {
namespace {

struct Sizes {
  int64_t count, vocabulary, width, period, first_position;
  int64_t places() const { return first_position + period + 2; }
};

std::vector<int32_t> indices_for(Execution& run, const Sizes& s) {
  std::vector<int32_t> indices;
  for (int64_t n = 0; n < s.count; ++n)
    indices.push_back(int32_t(run.generator().below(uint64_t(s.vocabulary))));
  return indices;
}

void forward(std::vector<Case>& cases, Sizes s, bool with_positions, const std::string& name) {
  cases.push_back(
      {"embedding_forward", name, [=](Execution& run) {
         const std::vector<int32_t> index = indices_for(run, s);
         const Tensor indices = run.indices(index), table = run.input({s.vocabulary, s.width}),
                      positions = with_positions ? run.input({s.places(), s.width}) : Tensor();
         kernel::embedding_forward(run.device(), {indices, table, positions, s.first_position,
                                                  s.period, run.output("y", {s.count, s.width})});
         const Values tokens = table.to_vector(),
                      places = with_positions ? positions.to_vector() : Values();
         Values y;
         for (int64_t n = 0; n < s.count; ++n)
           for (int64_t i = 0; i < s.width; ++i) {
             const double place =
                 with_positions ? places[size_t((s.first_position + n % s.period) * s.width + i)]
                                : 0;
             y.push_back(tokens[size_t(index[size_t(n)] * s.width + i)] + place);
           }
         run.expect("y", y);
       }});
}

void backward(std::vector<Case>& cases, Sizes s, bool wants_table, bool wants_positions,
              const std::string& name) {
  cases.push_back(
      {"embedding_backward", name, [=](Execution& run) {
         const std::vector<int32_t> index = indices_for(run, s);
         const Tensor indices = run.indices(index), grad_y = run.input({s.count, s.width});
         Tensor none;
         Tensor& grad_table =
             wants_table ? run.updated("grad_table", {s.vocabulary, s.width}) : none;
         Tensor& grad_positions =
             wants_positions ? run.updated("grad_positions", {s.places(), s.width}) : none;
         Values table = wants_table ? grad_table.to_vector() : Values(),
                places = wants_positions ? grad_positions.to_vector() : Values();
         kernel::embedding_backward(run.device(), {indices, grad_y, s.first_position, s.period,
                                                   grad_table, grad_positions});
         const Values g = grad_y.to_vector();
         for (int64_t n = 0; n < s.count; ++n)
           for (int64_t i = 0; i < s.width; ++i) {
             const double gradient = g[size_t(n * s.width + i)];
             if (wants_table) table[size_t(index[size_t(n)] * s.width + i)] += gradient;
             if (wants_positions)
               places[size_t((s.first_position + n % s.period) * s.width + i)] += gradient;
           }
         if (wants_table) run.expect("grad_table", table, 4);
         if (wants_positions) run.expect("grad_positions", places, 4);
       }});
}

std::vector<Case> cases() {
  std::vector<Case> cases;
  for (Sizes s : {Sizes{1, 1, 1, 1, 0},
                  {7, 3, 17, 7, 0},
                  {33, 65, 33, 3, 2},
                  {100, 7, 65, 33, 0},
                  {768, 65, 100, 64, 0},
                  {5, 1000, 3, 8, 4}}) {
    const std::string name = fmt::format("n{} V{} C{} period {} from {}", s.count, s.vocabulary,
                                         s.width, s.period, s.first_position);
    forward(cases, s, true, name + " positions");
    forward(cases, s, false, name);
    backward(cases, s, true, true, name);
    backward(cases, s, true, false, name + " table only");
    backward(cases, s, false, true, name + " positions only");
  }
  return cases;
}

void refusals(Refusals& r) {
  Tensor table = f32({5, 2}), y = f32({3, 2}), undefined, positions = f32({4, 2});
  r.accepts(kernel::embedding_forward, {i32({0, 4, 2}), table, positions, 0, 4, y});
  r.refuses(kernel::embedding_forward, {i32({0, 5, 2}), table, undefined, 0, 1, y},
            "indices[1] is 5; wanted 0 <= index < 5");
  r.refuses(kernel::embedding_forward, {i32({0, -1, 2}), table, undefined, 0, 1, y},
            "indices[1] is -1");
  r.refuses(kernel::embedding_forward, {i32({0, 1, 2}), table, positions, 2, 3, y},
            "positions 2..4 are outside the table of 4");
  r.refuses(kernel::embedding_backward, {i32({0, 1}), y, 0, 1, table, undefined}, "indices");
  r.refuses(kernel::embedding_backward, {i32({0, 1, 7}), y, 0, 1, table, undefined},
            "indices[2] is 7");
  r.refuses(kernel::embedding_backward, {i32({0, 1, 2}), y, 0, 9, undefined, positions},
            "outside the table");
}

const CaseFile file(cases, refusals);

}  // namespace
}  // namespace reverie::test
