#pragma once
// References in double, by straight loops over the definitions: slow, short, and without anything
// of the kernels in them.

#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "core/random.h"
#include "kernels/attention.h"
#include "kernels/elementwise.h"
#include "kernels/norm.h"

namespace reverie::naive {

using Values = std::vector<double>;

inline double value(Unary f, double x) {
  const double sigmoid = 1 / (1 + std::exp(-x)),
               u = std::sqrt(2 / M_PI) * (x + 0.044715 * x * x * x);
  switch (f) {
    case Unary::sigmoid:
      return sigmoid;
    case Unary::tanh:
      return std::tanh(x);
    case Unary::relu:
      return std::max(x, 0.0);
    case Unary::silu:
      return x * sigmoid;
    case Unary::gelu:
      return 0.5 * x * std::erfc(-x / std::sqrt(2.0));
    case Unary::gelu_tanh:
      return 0.5 * x * (1 + std::tanh(u));
    case Unary::exp:
      return std::exp(x);
    case Unary::softplus:
      return std::log1p(std::exp(x));
  }
  return NAN;
}

inline double derivative(Unary f, double x) {
  const double sigmoid = 1 / (1 + std::exp(-x)), root = std::sqrt(2 / M_PI);
  const double u = root * (x + 0.044715 * x * x * x), tanh_u = std::tanh(u);
  switch (f) {
    case Unary::sigmoid:
      return sigmoid * (1 - sigmoid);
    case Unary::tanh:
      return 1 - std::tanh(x) * std::tanh(x);
    case Unary::relu:
      return x > 0 ? 1 : 0;
    case Unary::silu:
      return sigmoid * (1 + x * (1 - sigmoid));
    case Unary::gelu:
      return 0.5 * std::erfc(-x / std::sqrt(2.0)) + x * std::exp(-x * x / 2) / std::sqrt(2 * M_PI);
    case Unary::gelu_tanh:
      return 0.5 * (1 + tanh_u) +
             0.5 * x * (1 - tanh_u * tanh_u) * root * (1 + 3 * 0.044715 * x * x);
    case Unary::exp:
      return std::exp(x);
    case Unary::softplus:
      return sigmoid;
  }
  return NAN;
}

inline double value(Binary f, double a, double b) {
  switch (f) {
    case Binary::add:
      return a + b;
    case Binary::subtract:
      return a - b;
    case Binary::multiply:
      return a * b;
  }
  return NAN;
}

// Number n of the stream is kept.
inline bool keep(double p, uint64_t seed, uint64_t offset, uint64_t n) {
  return double(uniform_from_bits(philox(seed, offset + n / 4).v[n % 4])) >= p;
}

// a [m, k], b [k, n] -> [m, n].
inline Values matmul(const Values& a, const Values& b, int64_t m, int64_t n, int64_t k) {
  Values c(size_t(m * n));
  for (int64_t i = 0; i < m; ++i)
    for (int64_t j = 0; j < n; ++j) {
      double total = 0;
      for (int64_t l = 0; l < k; ++l) total += a[size_t(i * k + l)] * b[size_t(l * n + j)];
      c[size_t(i * n + j)] = total;
    }
  return c;
}

struct NormResult {
  Values y, mean, rstd;
};
inline NormResult norm(Norm kind, const Values& x, const Values& weight, const Values& bias,
                       double eps, int64_t width) {
  NormResult r;
  for (size_t row = 0; row < x.size() / size_t(width); ++row) {
    const double* in = x.data() + row * size_t(width);
    double mean = 0, squares = 0;
    for (int64_t i = 0; i < width && kind == Norm::layer; ++i) mean += in[i] / double(width);
    for (int64_t i = 0; i < width; ++i) squares += (in[i] - mean) * (in[i] - mean) / double(width);
    const double rstd = 1 / std::sqrt(squares + eps);
    r.mean.push_back(mean);
    r.rstd.push_back(rstd);
    for (int64_t i = 0; i < width; ++i) {
      const double w = weight.empty() ? 1 : weight[size_t(i)],
                   b = bias.empty() ? 0 : bias[size_t(i)];
      r.y.push_back((in[i] - mean) * rstd * w + b);
    }
  }
  return r;
}

struct NormGradients {
  Values x, weight, bias;
};
// By the Jacobian of one row, term by term: d xhat_i / d x_j = rstd (delta_ij - 1/n [layer] -
// xhat_i xhat_j / n).
inline NormGradients norm_gradients(Norm kind, const Values& x, const Values& weight,
                                    const Values& mean, const Values& rstd, const Values& grad_y,
                                    int64_t width) {
  NormGradients g{Values(x.size()), Values(size_t(width)), Values(size_t(width))};
  const size_t n = size_t(width);
  for (size_t row = 0; row < rstd.size(); ++row) {
    Values xhat(n);
    for (size_t i = 0; i < n; ++i)
      xhat[i] = (x[row * n + i] - (kind == Norm::layer ? mean[row] : 0)) * rstd[row];
    for (size_t i = 0; i < n; ++i) {
      const double gradient = grad_y[row * n + i];
      g.weight[i] += gradient * xhat[i];
      g.bias[i] += gradient;
      for (size_t j = 0; j < n; ++j) {
        const double jacobian = (i == j ? 1.0 : 0.0) -
                                (kind == Norm::layer ? 1.0 / double(n) : 0.0) -
                                xhat[i] * xhat[j] / double(n);
        g.x[row * n + j] += gradient * (weight.empty() ? 1 : weight[i]) * rstd[row] * jacobian;
      }
    }
  }
  return g;
}

// Attention over dense arrays: query [B, Tq, H, D], key and value [B, Tk, Hkv, D].
struct AttentionShape {
  int64_t batch, queries, keys, heads, kv_heads, dim;
  size_t query(int64_t b, int64_t i, int64_t h, int64_t d) const {
    return size_t(((b * queries + i) * heads + h) * dim + d);
  }
  size_t key(int64_t b, int64_t j, int64_t h, int64_t d) const {
    return size_t(((b * keys + j) * kv_heads + h / (heads / kv_heads)) * dim + d);
  }
  size_t row(int64_t b, int64_t h, int64_t i) const {
    return size_t((b * heads + h) * queries + i);
  }
};
struct AttentionResult {
  Values output, log_sum_exp, grad_query, grad_key, grad_value;
};
inline double rounded_to_bf16(double x) {
  return Tensor::from<float>({1}, {float(x)}).to(DType::bf16).to_vector()[0];
}
// Forward, and backward from grad_output where that is not empty; visible(b, i, j): query i of
// entry b sees key j. options.bf16: weights and dL/dscores that meet a product in the backward pass
// are rounded; inputs are taken as they are, and so are the forward pass's weights, which are
// rounded before they are divided by a sum that the blocks of keys decide.
template <class Visible>
AttentionResult masked_attention(const AttentionShape& s, const Values& query, const Values& key,
                                 const Values& value, const AttentionOptions& options,
                                 const Visible& visible, const Values& grad_output = {}) {
  AttentionResult r{Values(query.size()), Values(size_t(s.batch * s.heads * s.queries)),
                    Values(query.size()), Values(key.size()), Values(key.size())};
  const auto operand = [&](double x) { return options.bf16 ? rounded_to_bf16(x) : x; };
  for (int64_t b = 0; b < s.batch; ++b)
    for (int64_t h = 0; h < s.heads; ++h)
      for (int64_t i = 0; i < s.queries; ++i) {
        Values p(static_cast<size_t>(s.keys)), kept(p.size()), grad_p(p.size()), slope(p.size());
        double total = 0;
        for (int64_t j = 0; j < s.keys; ++j) {
          if (!visible(b, i, j)) continue;
          double score = 0;
          for (int64_t d = 0; d < s.dim; ++d)
            score += query[s.query(b, i, h, d)] * key[s.key(b, j, h, d)] * options.scale;
          slope[size_t(j)] = options.scale;
          if (options.softcap > 0) {
            const double bend = std::tanh(score / options.softcap);
            score = options.softcap * bend;
            slope[size_t(j)] *= 1 - bend * bend;
          }
          total += p[size_t(j)] = std::exp(score);
        }
        r.log_sum_exp[s.row(b, h, i)] = std::log(total);
        double average = 0;
        for (int64_t j = 0; j < s.keys; ++j) {
          if (!visible(b, i, j)) continue;
          const uint64_t number = uint64_t(s.row(b, h, i)) * uint64_t(s.keys) + uint64_t(j);
          p[size_t(j)] /= total;
          kept[size_t(j)] = keep(options.dropout_p, options.seed, options.offset, number)
                                ? 1 / (1 - options.dropout_p)
                                : 0;
          for (int64_t d = 0; d < s.dim; ++d)
            r.output[s.query(b, i, h, d)] +=
                p[size_t(j)] * kept[size_t(j)] * value[s.key(b, j, h, d)];
        }
        if (grad_output.empty()) continue;
        for (int64_t j = 0; j < s.keys; ++j) {
          if (!visible(b, i, j)) continue;
          const double weight = operand(p[size_t(j)] * kept[size_t(j)]);
          for (int64_t d = 0; d < s.dim; ++d) {
            grad_p[size_t(j)] +=
                grad_output[s.query(b, i, h, d)] * value[s.key(b, j, h, d)] * kept[size_t(j)];
            r.grad_value[s.key(b, j, h, d)] += grad_output[s.query(b, i, h, d)] * weight;
          }
          average += grad_p[size_t(j)] * p[size_t(j)];
        }
        for (int64_t j = 0; j < s.keys; ++j) {
          if (!visible(b, i, j)) continue;
          const double grad_score =
              operand(p[size_t(j)] * (grad_p[size_t(j)] - average) * slope[size_t(j)]);
          for (int64_t d = 0; d < s.dim; ++d) {
            r.grad_query[s.query(b, i, h, d)] += grad_score * key[s.key(b, j, h, d)];
            r.grad_key[s.key(b, j, h, d)] += grad_score * query[s.query(b, i, h, d)];
          }
        }
      }
  return r;
}

inline AttentionResult attention(const AttentionShape& s, const Values& query, const Values& key,
                                 const Values& value, const AttentionOptions& options,
                                 const Values& grad_output = {}) {
  const auto visible = [&](int64_t, int64_t i, int64_t j) {
    const int64_t behind = options.first_position + i - j;
    return behind >= 0 && (options.window == 0 || behind < options.window);
  };
  return masked_attention(s, query, key, value, options, visible, grad_output);
}

// Groups of rows over a shared context, as one masked softmax over [context, all groups]. The last
// rows of each group ask.
struct GroupedShape {
  int64_t batch, groups, size, context, heads, kv_heads, dim, asking = 0;  // 0: all
  int64_t rows() const { return groups * size; }
  int64_t queries_each() const { return asking > 0 ? asking : size; }
  int64_t queries() const { return groups * queries_each(); }
};
struct GroupedResult {
  Values output, log_sum_exp, grad_query, grad_key, grad_value, grad_context_key,
      grad_context_value;
};
inline GroupedResult grouped_attention(const GroupedShape& s, const Values& query,
                                       const Values& key, const Values& value,
                                       const Values& context_key, const Values& context_value,
                                       const std::vector<int32_t>& limits,
                                       const AttentionOptions& options,
                                       const Values& grad_output = {}) {
  const size_t row = size_t(s.kv_heads * s.dim), of_context = size_t(s.context) * row,
               of_groups = size_t(s.rows()) * row;
  const auto join = [&](const Values& context, const Values& groups) {
    Values all;
    for (size_t b = 0; b < size_t(s.batch); ++b) {
      all.insert(all.end(), &context[b * of_context], &context[b * of_context] + of_context);
      all.insert(all.end(), &groups[b * of_groups], &groups[b * of_groups] + of_groups);
    }
    return all;
  };
  const auto visible = [&](int64_t b, int64_t i, int64_t j) {
    const int64_t each = s.queries_each(), group = i / each,
                  limit = limits[size_t(b * s.groups + group)],
                  position = limit + s.size - each + i % each, own = j - s.context;
    if (own >= 0 && own / s.size != group) return false;
    if (own < 0 && j >= limit) return false;
    const int64_t behind = position - (own < 0 ? j : limit + own % s.size);
    return behind >= 0 && (options.window == 0 || behind < options.window);
  };
  const AttentionShape joined{s.batch, s.queries(), s.context + s.rows(),
                              s.heads, s.kv_heads,  s.dim};
  const AttentionResult r =
      masked_attention(joined, query, join(context_key, key), join(context_value, value), options,
                       visible, grad_output);
  GroupedResult g{r.output, r.log_sum_exp, r.grad_query, {}, {}, {}, {}};
  const auto split = [&](const Values& all, Values& context, Values& groups) {
    for (size_t b = 0; b < size_t(s.batch); ++b) {
      const double* from = &all[b * (of_context + of_groups)];
      context.insert(context.end(), from, from + of_context);
      groups.insert(groups.end(), from + of_context, from + of_context + of_groups);
    }
  };
  split(r.grad_key, g.grad_context_key, g.grad_key);
  split(r.grad_value, g.grad_context_value, g.grad_value);
  return g;
}

}  // namespace reverie::naive
