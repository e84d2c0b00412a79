#include "kernels/case.h"

#include <cmath>
#include <cstring>

#include "kernels/random_blocks.h"

namespace reverie::test {
namespace {
constexpr size_t kGuardBytes = 1024;
constexpr int kCanary = 0xff;
}  // namespace

Guarded::Guarded(const Shape& shape, DType dtype, const Placement& placement) {
  const size_t bytes = size_t(shape.numel()) * size_of(dtype);
  begin_ = kGuardBytes + (placement.aligned ? 0 : size_of(dtype));
  end_ = begin_ + bytes;
  storage_ = std::make_shared<Storage>(end_ + kGuardBytes, placement.device);
  all_bytes().fill(kCanary);
  tensor_ = Tensor::over(storage_, shape, dtype, int64_t(begin_ / size_of(dtype)));
}

Tensor Guarded::all_bytes() const {
  return Tensor::over(storage_, {int64_t(storage_->bytes())}, DType::u8);
}

bool Guarded::intact() const {
  const Tensor host = all_bytes().to(Device{});
  const auto* bytes = host.data<uint8_t>();
  for (size_t i = 0; i < storage_->bytes(); ++i)
    if ((i < begin_ || i >= end_) && bytes[i] != kCanary) return false;
  return true;
}

Tensor Execution::input(const Shape& shape, double scale, double shift) {
  const Tensor random = generator_.normal(shape, shift, scale, DType::f64);
  return input(shape, random.to_vector());
}

Tensor Execution::input(const Shape& shape, const Values& values) {
  Tensor t = guarded_.emplace_back(shape, dtype_, placement_).tensor();
  t.copy_from(Tensor::from<double>(shape, values).to(dtype_));
  inputs_.push_back({t, t.clone()});
  return t;
}

Tensor Execution::indices(const std::vector<int32_t>& values) {
  const Shape shape{int64_t(values.size())};
  Tensor t = guarded_.emplace_back(shape, DType::i32, placement_).tensor();
  t.copy_from(Tensor::from<int32_t>(shape, values));
  inputs_.push_back({t, t.clone()});
  return t;
}

Tensor Execution::stored(CompactType type, int64_t rows, int64_t columns) {
  const std::vector<std::byte> blocks = random_blocks(type, rows, columns, generator_);
  // In words: a GPU wants no less alignment than theirs.
  std::vector<int32_t> words((blocks.size() + 3) / 4);
  std::memcpy(words.data(), blocks.data(), blocks.size());
  const Tensor t = indices(words);
  return compact_tensor(
      {type, static_cast<const std::byte*>(t.raw()), row_bytes_of(type, columns), rows, columns},
      t.storage());
}

Tensor& Execution::add_result(const std::string& name, const Shape& shape, bool wide) {
  Tensor t = guarded_.emplace_back(shape, wide ? DType::f64 : dtype_, placement_).tensor();
  results_.push_back({name, t, {}, 1, 0, false});
  return results_.back().tensor;
}

Tensor& Execution::output(const std::string& name, const Shape& shape, bool wide) {
  return add_result(name, shape, wide);
}

Tensor& Execution::updated(const std::string& name, const Shape& shape, bool wide) {
  Tensor& t = add_result(name, shape, wide);
  t.copy_from(generator_.normal(shape, 0, 1, DType::f64).to(t.dtype()));
  return t;
}

void Execution::expect(const std::string& name, Values values, double factor, double least_size) {
  for (Result& r : results_) {
    if (r.name != name) continue;
    r.expected = std::move(values);
    r.factor = factor;
    r.least_size = least_size;
    r.has_expectation = true;
    return;
  }
  throw InternalError("the case expects " + name + ", which it has not declared");
}

void Execution::expect_rounded(const std::string& name, const Tensor& full,
                               const std::function<void(Tensor&)>& call) {
  if (dtype_ != DType::f32) return;
  guarded_.emplace_back(full.shape(), DType::bf16, placement_);
  Tensor narrow = guarded_.back().tensor();
  call(narrow);
  output(name, {1}).fill(bit_identical(narrow, full.to(DType::bf16)) ? 1 : 0);
  expect(name, {1});
}

std::string Execution::damage() const {
  for (const Guarded& g : guarded_)
    if (!g.intact()) return "bytes beside " + g.tensor().str() + " were overwritten";
  for (const Input& i : inputs_)
    if (!bit_identical(i.tensor, i.before)) return "input " + i.tensor.str() + " was changed";
  for (const Result& r : results_)
    if (!r.has_expectation) return "the case expects nothing of its output " + r.name;
  return "";
}

double typical_size(const Values& expected, double least_size) {
  double squares = 0;
  for (double e : expected) squares += e * e;
  return std::max(least_size,
                  expected.empty() ? 0.0 : std::sqrt(squares / double(expected.size())));
}

std::string disagreement(const Values& expected, const Values& actual, DType dtype, double factor,
                         double least_size) {
  if (expected.size() != actual.size())
    return fmt::format("{} elements, wanted {}", actual.size(), expected.size());
  const double typical = typical_size(expected, least_size);
  const double relative = (dtype == DType::f32 ? 2e-6 : 4e-15) * factor;
  double worst = 0;
  size_t where = 0;
  for (size_t i = 0; i < expected.size(); ++i) {
    const double allowed = relative * std::max(std::abs(expected[i]), typical);
    const double error = std::abs(expected[i] - actual[i]);
    const double excess = error == 0 ? 0 : error / allowed;
    if (!(excess <= worst)) {
      worst = excess;
      where = i;
      if (std::isnan(excess)) break;
    }
  }
  if (worst <= 1) return "";
  return fmt::format(
      "element {} of {} is {:.9g}, wanted {:.9g}: {:.2f} times the tolerance of {:.1g}", where,
      expected.size(), actual[where], expected[where], worst, relative);
}

namespace {
std::vector<const CaseFile*>& case_files() {
  static std::vector<const CaseFile*> files;
  return files;
}
}  // namespace

CaseFile::CaseFile(std::vector<Case> (*the_cases)(), void (*the_refusals)(Refusals&))
    : cases(the_cases), refusals(the_refusals) {
  case_files().push_back(this);
}
const std::vector<const CaseFile*>& CaseFile::all() {
  return case_files();
}

const std::vector<Case>& all_cases() {
  static const std::vector<Case> cases = [] {
    std::vector<Case> all;
    for (const CaseFile* file : case_files())
      for (Case& c : file->cases()) all.push_back(std::move(c));
    return all;
  }();
  return cases;
}

}  // namespace reverie::test
