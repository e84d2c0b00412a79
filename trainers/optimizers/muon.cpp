#include <algorithm>
#include <cmath>

#include "kernels/elementwise.h"
#include "kernels/matmul.h"
#include "kernels/optimizer.h"
#include "kernels/reduce.h"
#include "trainers/optimizers/optimizer.h"

namespace reverie {
namespace {

struct MuonOptions final : OptimizerOptions {
  double momentum = 0.95, beta1 = 0.9, beta2 = 0.99, eps = 1e-8, adamw_learning_rate = 1.0;
  bool nesterov = true;
  std::string scale = "original";
  int64_t newton_schulz_steps = 5;
  std::vector<std::string> adamw_names = {"wte", "wpe", "embed", "lm_head"};
  void fields(Fields& f) override {
    OptimizerOptions::fields(f);
    f.number("momentum", momentum, {0, 0.9999999}, "decay of a matrix's momentum");
    f.boolean("nesterov", nesterov, "look one step ahead along the momentum");
    f.integer("newton_schulz_steps", newton_schulz_steps, {1, 20},
              "iterations that bring the singular values of an update near 1");
    f.text("scale", scale, {"original", "match_rms_adamw"},
           "factor of a matrix's update [m, n]; original: sqrt(max(1, m / n)); match_rms_adamw: "
           "0.2 sqrt(max(m, n)), for learning rates and weight decay tuned for AdamW (Liu et al. "
           "2025)");
    f.texts("adamw_names", adamw_names,
            "AdamW updates the matrices whose names contain one of these (embeddings and the "
            "head), as it does vectors");
    f.number("adamw_learning_rate", adamw_learning_rate, {0, 1e6},
             "AdamW's learning rate as a multiple of the matrices'");
    f.number("beta1", beta1, {0, 0.9999999}, "AdamW: decay of the first moment");
    f.number("beta2", beta2, {0, 0.9999999}, "AdamW: decay of the second moment");
    f.number("eps", eps, {0, 1}, "AdamW: added to the square root of the second moment");
  }
};

Tensor product(const Tensor& a, const Tensor& b) {
  Tensor c = Tensor::empty({a.size(0), b.size(1)}, a.dtype(), a.device());
  kernel::matmul(a.device(), {a, b, 1.0, false, c});
  return c;
}
void scale_in_place(Tensor& x, double factor) {
  kernel::affine(x.device(), {x, factor, 0.0, x});
}

// The matrix [m, n] with its singular values brought near 1 (between about 0.7 and 1.2), by a
// quintic Newton-Schulz iteration on X / |X|: X <- a X + (b A + c A A) X with A = X X^T (Jordan et
// al., "Muon", 2024). The iteration runs on the wide form, whose A is the smaller one.
Tensor orthogonalised(const Tensor& matrix, int64_t iterations) {
  constexpr double a = 3.4445, b = -4.7750, c = 2.0315, smallest_norm = 1e-7;
  const bool tall = matrix.size(0) > matrix.size(1);
  Tensor x = (tall ? matrix.transpose(0, 1) : matrix).clone();
  Tensor squares = Tensor::zeros({1}, DType::f64, x.device());
  kernel::sum_squares(x.device(), {x, squares});
  scale_in_place(x, 1 / std::max(std::sqrt(squares.item()), smallest_norm));
  for (int64_t i = 0; i < iterations; ++i) {
    const Tensor gram = product(x, x.transpose(0, 1));
    Tensor update = product(gram, gram);
    scale_in_place(update, c);
    kernel::accumulate(x.device(), {gram, b, update});
    Tensor next = product(update, x);
    kernel::accumulate(x.device(), {x, a, next});
    x = next;
  }
  return tall ? x.transpose(0, 1).contiguous() : x;
}

// Muon (Jordan et al. 2024) for hidden matrices, with the form of torch.optim.Muon: momentum by
// interpolation, decoupled weight decay. Vectors and matrices named in adamw_names go to AdamW. A
// tensor of more than two dimensions counts as a matrix of its first one.
class MuonOptimizer final : public Optimizer {
 public:
  MuonOptimizer(const MuonOptions& o, FlatParameters& parameters)
      : Optimizer(o, parameters),
        o_(o),
        momentum_(keep(parameters.matrices(), "momentum.", matrices_of(o, parameters, true))),
        matrix_first_(keep(parameters.matrices(), "m.", matrices_of(o, parameters, false))),
        matrix_second_(keep(parameters.matrices(), "v.", matrices_of(o, parameters, false))),
        vector_first_(keep(parameters.vectors(), "m.")),
        vector_second_(keep(parameters.vectors(), "v.")) {}

 private:
  using Member = FlatParameters::Member;
  using Bucket = FlatParameters::Bucket;

  static bool is_hidden(const MuonOptions& o, const std::string& name) {
    return std::none_of(o.adamw_names.begin(), o.adamw_names.end(), [&](const std::string& part) {
      return name.find(part) != std::string::npos;
    });
  }
  static std::vector<const Member*> matrices_of(const MuonOptions& o, FlatParameters& parameters,
                                                bool hidden) {
    std::vector<const Member*> members;
    for (const Member& m : parameters.matrices().members)
      if (is_hidden(o, m.name) == hidden) members.push_back(&m);
    return members;
  }

  void update(double rate, double gradient_scale) override {
    Bucket &matrices = parameters_.matrices(), &vectors = parameters_.vectors();
    for (const Member& m : matrices.members) {
      if (!parameters_.owns(matrices, m)) continue;
      if (is_hidden(o_, m.name))
        update_matrix(m, rate, gradient_scale);
      else
        adamw(m.variable.tensor(), placed(matrices.gradients, m), matrix_first_.of(m),
              matrix_second_.of(m), rate, o_.weight_decay, gradient_scale);
    }
    if (Tensor values = parameters_.own_share(vectors, vectors.values); values.numel() > 0)
      adamw(values, parameters_.own_share(vectors, vectors.gradients), vector_first_.flat(),
            vector_second_.flat(), rate, 0, gradient_scale);
    parameters_.exchange_values(matrices);
    parameters_.exchange_values(vectors);
  }

  static Tensor placed(const Tensor& flat, const Member& m) {
    return Tensor::over(flat.storage(), m.variable.shape(), flat.dtype(), m.offset);
  }

  void adamw(Tensor values, const Tensor& gradients, Tensor first, Tensor second, double rate,
             double weight_decay, double gradient_scale) const {
    const auto flat = [](const Tensor& t) { return t.view({t.numel()}); };
    Tensor value = flat(values), m = flat(first), v = flat(second);
    kernel::adamw(value.device(),
                  {value, flat(gradients), m, v, rate * o_.adamw_learning_rate, o_.beta1, o_.beta2,
                   o_.eps, weight_decay, steps_, gradient_scale});
  }

  void update_matrix(const Member& m, double rate, double gradient_scale) {
    const int64_t rows = m.variable.shape()[0];
    Tensor value = m.variable.tensor();
    const Shape matrix{rows, value.numel() / std::max<int64_t>(1, rows)};
    Tensor momentum = momentum_.of(m).view(matrix), weights = value.view(matrix);
    const Tensor gradient = placed(parameters_.matrices().gradients, m).view(matrix);
    scale_in_place(momentum, o_.momentum);
    kernel::accumulate(momentum.device(), {gradient, (1 - o_.momentum) * gradient_scale, momentum});
    Tensor direction = momentum.clone();
    if (o_.nesterov) {
      scale_in_place(direction, o_.momentum);
      kernel::accumulate(direction.device(),
                         {gradient, (1 - o_.momentum) * gradient_scale, direction});
    }
    const Tensor update = orthogonalised(direction, o_.newton_schulz_steps);
    const double m_rows = double(matrix[0]), columns = double(matrix[1]),
                 size = o_.scale == "original" ? std::sqrt(std::max(1.0, m_rows / columns))
                                               : 0.2 * std::sqrt(std::max(m_rows, columns));
    scale_in_place(weights, 1 - rate * o_.weight_decay);
    kernel::accumulate(weights.device(), {update, -rate * size, weights});
  }

  MuonOptions o_;
  FlatState &momentum_, &matrix_first_, &matrix_second_, &vector_first_, &vector_second_;
};

const bool muon_optimizer_registered =
    OptimizerRegistry::instance().add<MuonOptimizer, MuonOptions>(
        "muon", "momentum with orthogonalised updates for hidden matrices, AdamW for the rest");

}  // namespace
}  // namespace reverie
