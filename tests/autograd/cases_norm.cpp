// Norms.

#include "autograd/ops/norm.h"
#include "op_cases.h"

namespace reverie::testing {
namespace {

void cases(OpCases& list) {
  const double eps = 1e-5;
  list.add("layer_norm", {{2, 3, 7}, {7}, {7}},
           [=](const Variables& v) { return Variables{layer_norm(v[0], v[1], v[2], eps)}; });
  list.add("layer_norm_without_bias", {{5, 7}, {7}},
           [=](const Variables& v) { return Variables{layer_norm(v[0], v[1], {}, eps)}; });
  list.add("layer_norm_without_weight", {{5, 7}, {7}},
           [=](const Variables& v) { return Variables{layer_norm(v[0], {}, v[1], eps)}; });
  list.add("layer_norm_plain", {{5, 7}},
           [=](const Variables& v) { return Variables{layer_norm(v[0], {}, {}, eps)}; });
  list.add("rms_norm", {{2, 3, 7}, {7}},
           [=](const Variables& v) { return Variables{rms_norm(v[0], v[1], eps)}; });
  list.add("rms_norm_plain", {{5, 7}},
           [=](const Variables& v) { return Variables{rms_norm(v[0], {}, eps)}; });
  for (Norm kind : {Norm::layer, Norm::rms}) {
    const std::string name = kind == Norm::layer ? "residual_layer_norm" : "residual_rms_norm";
    const auto run = [=](const Variables& v) {
      return residual_norm(kind, v[0], v[1], v[2], kind == Norm::layer ? v[3] : Variable(), eps);
    };
    std::vector<Shape> shapes = {{2, 3, 7}, {2, 3, 7}, {7}};
    if (kind == Norm::layer) shapes.push_back({7});
    list.add(name, shapes, [=](const Variables& v) {
      const ResidualNorm r = run(v);
      return Variables{r.sum, r.normed};
    });
    list.add(name + "_only_sum", shapes, [=](const Variables& v) { return Variables{run(v).sum}; });
    list.add(name + "_only_normed", shapes,
             [=](const Variables& v) { return Variables{run(v).normed}; });
    list.add(name + "_plain", {{4, 7}, {4, 7}}, [=](const Variables& v) {
      const ResidualNorm r = residual_norm(kind, v[0], v[1], {}, {}, eps);
      return Variables{r.sum, r.normed};
    });
    list.add(name + "_of_one_thing", {{4, 7}}, [=](const Variables& v) {
      const ResidualNorm r = residual_norm(kind, v[0], v[0], {}, {}, eps);
      return Variables{r.sum, r.normed};
    });
  }

  list.refuses("norm", "norm_forward: weight is f64[2, 7] cpu; wanted [7]", [] {
    rms_norm(zeros({2, 7}), zeros({2, 7}), 1e-5);
  });
  list.refuses("norm", "norm_forward: bias is f64[6] cpu; wanted [7]", [] {
    layer_norm(zeros({2, 7}), {}, zeros({6}), 1e-5);
  });
  list.refuses("residual_norm", "residual_norm: residual is f64[7, 2] cpu; wanted the shape of x",
               [] {
                 residual_norm(Norm::rms, zeros({2, 7}), zeros({7, 2}), {}, {}, 1e-5);
               });
}

const OpCaseFile file(cases);

}  // namespace
}  // namespace reverie::testing
