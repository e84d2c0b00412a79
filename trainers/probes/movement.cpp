#include "trainers/probes/movement.h"

#include <algorithm>
#include <cmath>

#include "autograd/ops/loss.h"
#include "autograd/ops/shape.h"
#include "core/error.h"

namespace reverie {
namespace {

// More rows than these say no more about a leak.
constexpr size_t kRowsWithLogits = 64;

Tensor on_host(const Tensor& t) {
  return t.to(Device{}).to(DType::f64).contiguous();
}

struct MovedRow {
  double difference;
  const ComparedRows* of;
  int64_t position;  // within `of`
};

// Values of one row of [rows, positions, features], on the host.
const double* values_at(const Tensor& t, int64_t row, int64_t position) {
  return t.data<double>() + (row * t.size(1) + position) * t.size(2);
}
const double* base_values(const Tensor& base, const MovedRow& m) {
  return values_at(base, m.of->row, m.of->begin + m.position);
}
const double* moved_values(const Tensor& moved, const MovedRow& m) {
  return values_at(moved, m.of->moved_row, m.of->moved_begin + m.position);
}

// The rows that differ, the largest differences first; not more than kRowsWithLogits.
std::vector<MovedRow> moved_rows(const Tensor& base, const Tensor& moved,
                                 const std::vector<ComparedRows>& rows) {
  const int64_t features = base.size(2);
  std::vector<MovedRow> found;
  for (const ComparedRows& r : rows)
    for (int64_t i = 0; i < r.end - r.begin; ++i) {
      MovedRow row{0, &r, i};
      const double *x = base_values(base, row), *y = moved_values(moved, row);
      for (int64_t f = 0; f < features; ++f) {
        const double d = std::abs(x[f] - y[f]);
        if (!(d <= row.difference)) row.difference = std::isfinite(d) ? d : INFINITY;
      }
      if (row.difference > 0) found.push_back(row);
    }
  const size_t kept = std::min(found.size(), kRowsWithLogits);
  std::partial_sort(
      found.begin(), found.begin() + int64_t(kept), found.end(),
      [](const MovedRow& x, const MovedRow& y) { return x.difference > y.difference; });
  found.resize(kept);
  return found;
}

// [1, 2 n, features]: the n rows as they were, then as they are.
Tensor rows_before_and_after(const Tensor& base, const Tensor& moved,
                             const std::vector<MovedRow>& rows) {
  const int64_t n = int64_t(rows.size()), features = base.size(2);
  Tensor both = Tensor::empty({1, 2 * n, features}, DType::f64);
  for (int64_t i = 0; i < n; ++i) {
    const double *x = base_values(base, rows[size_t(i)]), *y = moved_values(moved, rows[size_t(i)]);
    std::copy(x, x + features, both.mutable_data<double>() + i * features);
    std::copy(y, y + features, both.mutable_data<double>() + (n + i) * features);
  }
  return both;
}

}  // namespace

void require_finite(const Tensor& hidden, const std::string& site) {
  const Tensor host = on_host(hidden);
  const double* x = host.data<double>();
  const int64_t features = hidden.size(2), time = hidden.size(1);
  for (int64_t i = 0; i < host.numel(); ++i)
    if (!std::isfinite(x[i]))
      throw DivergedError(
          fmt::format("the model's final hidden states are not finite ({}, row {}, position {}), "
                      "so the gate cannot tell whether it leaks. Look for a division, logarithm "
                      "or root in the code added last",
                      site, i / features / time, i / features % time));
}

void HiddenMovement::compare(const Tensor& base, const Tensor& moved,
                             const std::vector<ComparedRows>& rows, const std::string& site) {
  require_finite(base, site);
  const Tensor a = on_host(base), b = on_host(moved);
  const std::vector<MovedRow> found = moved_rows(a, b, rows);
  if (found.empty()) return;
  const auto n = int64_t(found.size());
  const Tensor both = rows_before_and_after(a, b, found);
  const NoGrad no_graph;
  const Variable& head = model_.head();
  const Tensor logits =
      on_host(model_.logits_of(Variable(both.to(head.dtype()).to(head.device()))).tensor());
  const int64_t vocabulary = logits.size(2);
  for (int64_t i = 0; i < n; ++i) {
    const double* x = logits.data<double>() + i * vocabulary;
    const double* y = logits.data<double>() + (n + i) * vocabulary;
    double change = 0, size = 1;
    for (int64_t v = 0; v < vocabulary; ++v) {
      const double d = std::abs(x[v] - y[v]);
      if (!(d <= change)) change = std::isfinite(d) ? d : INFINITY;
      if (std::isfinite(x[v])) size = std::max(size, std::abs(x[v]));
    }
    if (!std::isfinite(found[size_t(i)].difference)) change = INFINITY;
    if (change == 0 || change / size <= change_ / scale_) continue;
    const MovedRow& m = found[size_t(i)];
    change_ = change;
    scale_ = size;
    position_ = m.of->begin + m.position;
    row_ = m.of->row;
    note_ = m.of->note;
    where_ = fmt::format("{}{}position {}, row {}, {}", note_, note_.empty() ? "" : ", ", position_,
                         row_, site);
  }
}

std::vector<double> row_losses(const LanguageModel& model, const Variable& hidden,
                               const Tensor& targets) {
  const int64_t rows = targets.numel(), features = hidden.size(2),
                chunk = std::max<int64_t>(1, (int64_t(1) << 24) / model.vocabulary_size());
  const Variable flat = reshape(hidden, {1, rows, features});
  const Tensor wanted = targets.contiguous().view({1, rows});
  std::vector<double> losses;
  for (int64_t begin = 0; begin < rows; begin += chunk) {
    const int64_t end = std::min(rows, begin + chunk);
    const Tensor part = wanted.slice(1, begin, end).contiguous().to(hidden.device());
    const auto values =
        cross_entropy(model.logits_of(slice(flat, 1, begin, end)), part).tensor().to_vector();
    losses.insert(losses.end(), values.begin(), values.end());
  }
  return losses;
}

}  // namespace reverie
