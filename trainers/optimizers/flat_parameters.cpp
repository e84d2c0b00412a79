#include "trainers/optimizers/flat_parameters.h"

#include <fmt/format.h>

#include <cmath>

#include "core/error.h"
#include "core/files.h"
#include "core/rounded_copy.h"
#include "core/storage.h"
#include "kernels/copy.h"
#include "kernels/reduce.h"

namespace reverie {
namespace {

int64_t aligned(int64_t elements, DType dtype) {
  const int64_t line = 64 / int64_t(size_of(dtype));
  return (elements + line - 1) / line * line;
}

// Where shares of about equal size end: at the beginning of a member, or at the end of all.
std::vector<int64_t> share_ends(const std::vector<FlatParameters::Member>& members, int64_t size,
                                int64_t shares) {
  std::vector<int64_t> begin{0};
  size_t next = 0;
  for (int64_t share = 1; share < shares; ++share) {
    const int64_t wanted = size / shares * share + size % shares * share / shares;
    while (next < members.size() && members[next].offset < wanted) ++next;
    const int64_t above = next < members.size() ? members[next].offset : size,
                  below = next > 0 ? members[next - 1].offset : 0;
    const int64_t nearest = above - wanted < wanted - below ? above : below;
    begin.push_back(std::max(begin.back(), nearest));
  }
  begin.push_back(size);
  return begin;
}

// In double and in a fixed order.
double sum_of_squares(const std::vector<Tensor>& values, Device device) {
  Tensor total = Tensor::zeros({1}, DType::f64, device);
  for (const Tensor& t : values) kernel::sum_squares(device, {t, total});
  return total.item();
}

}  // namespace

std::vector<ParameterBucket> flat_layout(const Module& module, int shares) {
  std::vector<ParameterBucket> buckets(2);
  int64_t order = 0;
  for (const auto& [name, v] : module.parameters())
    if (v.requires_grad()) buckets[v.rank() >= 2 ? 0 : 1].members.push_back({name, v, 0, order++});
  for (ParameterBucket& b : buckets) {
    int64_t size = 0;
    for (ParameterBucket::Member& m : b.members) {
      m.offset = size;
      size += aligned(m.variable.tensor().numel(), m.variable.dtype());
    }
    b.begin = share_ends(b.members, size, shares);
  }
  return buckets;
}

FlatParameters::FlatParameters(Module& module, Communicator& communicator, bool shard, bool round)
    : communicator_(communicator),
      sharded_(shard && communicator.size() > 1),
      buckets_(flat_layout(module, sharded_ ? communicator.size() : 1)) {
  DType dtype = DType::f32;
  Device device;
  for (const Bucket& b : buckets_)
    for (const Member& m : b.members) {
      dtype = m.variable.dtype();
      device = m.variable.device();
    }
  const bool rounds = round && dtype == DType::f32 && !matrices().members.empty(),
             shards_masters = rounds && sharded_;
  for (Bucket& b : buckets_) {
    for (const Member& m : b.members)
      require(m.variable.dtype() == dtype, "the optimizer wants parameters of one dtype; {} is {}",
              m.name, m.variable.tensor().str());
    if (shards_masters && &b == &matrices()) continue;
    b.values = Tensor::zeros({b.begin.back()}, dtype, device);
    for (Member& m : b.members) {
      Tensor value = Tensor::over(b.values.storage(), m.variable.shape(), dtype, m.offset);
      value.copy_from(m.variable.tensor());
      m.variable.set_tensor(value);
    }
  }
  // The blocks that the parameters lay in are of sizes that nobody else asks for.
  allocator(device).release_cached();
  for (Bucket& b : buckets_) {
    b.gradients = Tensor::zeros({b.begin.back()}, dtype, device);
    for (Member& m : b.members)
      m.variable.set_grad_buffer(
          Tensor::over(b.gradients.storage(), m.variable.shape(), dtype, m.offset));
  }
  if (shards_masters)
    masters_.emplace(matrices(), communicator_);
  else if (rounds)
    matrices().rounded = Tensor::zeros({matrices().begin.back()}, DType::bf16, device);
}

size_t FlatParameters::value_bytes() const {
  size_t bytes = 0;
  for (const Tensor& t : kept_values()) bytes += t.bytes();
  return bytes;
}

void FlatParameters::gather_values() {
  if (masters_) masters_->gather();
}

void FlatParameters::round_matrices() {
  if (masters_) return masters_->begin_step();
  Bucket& b = matrices();
  if (!b.rounded || rounded_copy(b.values)) return;
  kernel::cast(b.values.device(), {b.values, b.rounded});
  keep_rounded_copy(b.values, b.rounded);
}

void FlatParameters::clear_gradients() {
  for (Bucket& b : buckets_)
    for (Member& m : b.members) m.variable.clear_grad();
}

std::vector<FlatGradients> FlatParameters::flat_gradients() const {
  std::vector<FlatGradients> all;
  for (const Bucket& b : buckets_) {
    if (b.members.empty()) continue;
    FlatGradients& flat = all.emplace_back();
    flat.gradients = b.gradients;
    for (const Member& m : b.members) flat.parts.push_back({m.variable, m.offset, m.order});
  }
  return all;
}

double FlatParameters::gradient_norm() {
  Tensor total = Tensor::zeros({1}, DType::f64, buckets_[0].values.device());
  for (Bucket& b : buckets_) {
    // A parameter no gradient reached keeps stale bytes in the bucket.
    for (Member& m : b.members)
      if (!m.variable.grad().defined())
        Tensor::over(b.gradients.storage(), m.variable.shape(), m.variable.dtype(), m.offset)
            .fill(0);
    if (!b.members.empty()) kernel::sum_squares(b.gradients.device(), {b.gradients, total});
  }
  return std::sqrt(total.item());
}

std::vector<Tensor> FlatParameters::kept_values() const {
  std::vector<Tensor> values;
  for (const Bucket& b : buckets_) {
    if (b.members.empty()) continue;
    if (masters_ && &b == &buckets_[0])
      values = masters_->kept();
    else
      values.push_back(b.values);
  }
  return values;
}

std::string FlatParameters::fingerprint() const {
  const std::vector<Tensor> values = kept_values();
  const Device device = buckets_[0].gradients.device();
  if (device.kind != DeviceKind::cpu) return fmt::format("{:a}", sum_of_squares(values, device));
  std::string out;
  for (const Tensor& t : values) out += hash_bytes(t.raw(), t.bytes());
  return out;
}

std::string FlatParameters::hash_of_copies() const {
  if (!masters_) return "";
  const Tensor copies = buckets_[0].rounded.to(Device{});
  return hash_bytes(copies.raw(), copies.bytes());
}

bool FlatParameters::finite() const {
  std::vector<Tensor> values = kept_values();
  if (masters_)
    for (const Tensor& t : masters_->gathered()) values.push_back(t);
  return std::isfinite(sum_of_squares(values, buckets_[0].gradients.device()));
}

Tensor FlatParameters::own_share(const Bucket& b, const Tensor& flat) const {
  if (masters_ && &b == &buckets_[0] && flat.shares_storage_with(b.values)) return flat;
  const size_t share = sharded_ ? size_t(communicator_.rank()) : 0;
  return flat.slice(0, b.begin[share], b.begin[share + 1]);
}

bool FlatParameters::owns(const Bucket& b, const Member& m) const {
  const size_t share = sharded_ ? size_t(communicator_.rank()) : 0;
  return m.offset >= b.begin[share] && m.offset < b.begin[share + 1];
}

void FlatParameters::exchange_values(Bucket& b) {
  if (masters_ && &b == &matrices()) return masters_->exchange();
  if (sharded_ && !b.members.empty()) communicator_.all_gather(b.values, b.begin);
}

// ---- what an optimizer keeps ----------------------------------------------------------

namespace {
std::vector<const FlatParameters::Member*> all_of(const FlatParameters::Bucket& bucket) {
  std::vector<const FlatParameters::Member*> members;
  for (const auto& m : bucket.members) members.push_back(&m);
  return members;
}
}  // namespace

FlatState::FlatState(FlatParameters& parameters, FlatParameters::Bucket& bucket, std::string prefix)
    : FlatState(parameters, bucket, std::move(prefix), all_of(bucket)) {}

FlatState::FlatState(FlatParameters& parameters, FlatParameters::Bucket& bucket, std::string prefix,
                     std::vector<const FlatParameters::Member*> members)
    : parameters_(parameters), prefix_(std::move(prefix)) {
  const DType dtype = bucket.values.dtype();
  int64_t size = 0;
  size_t share = 0;
  begin_.push_back(0);
  for (const auto* m : members) {
    while (m->offset >= bucket.begin[share + 1]) {
      begin_.push_back(size);
      ++share;
    }
    places_.push_back({m, size});
    size += aligned(m->variable.tensor().numel(), dtype);
  }
  begin_.resize(bucket.begin.size(), size);
  const size_t own = parameters.sharded() ? size_t(parameters.communicator().rank()) : 0;
  flat_ = Tensor::zeros({begin_[own + 1] - begin_[own]}, dtype, bucket.values.device());
}

Tensor FlatState::of(const FlatParameters::Member& member) const {
  const size_t own = parameters_.sharded() ? size_t(parameters_.communicator().rank()) : 0;
  for (const Place& p : places_)
    if (p.member == &member)
      return Tensor::over(flat_.storage(), member.variable.shape(), flat_.dtype(),
                          p.offset - begin_[own]);
  throw InternalError(fmt::format("{}{} is not kept", prefix_, member.name));
}

void FlatState::name_places(const Tensor& whole, NamedTensors& out) const {
  for (const Place& p : places_)
    out.emplace_back(
        prefix_ + p.member->name,
        Tensor::over(whole.storage(), p.member->variable.shape(), whole.dtype(), p.offset));
}

void FlatState::append_to(NamedTensors& out) const {
  if (!parameters_.sharded()) return name_places(flat_, out);
  Communicator& communicator = parameters_.communicator();
  Tensor whole;
  if (communicator.first()) whole = Tensor::empty({begin_.back()}, flat_.dtype(), flat_.device());
  communicator.gather(flat_, begin_, whole, 0);
  if (communicator.first()) name_places(whole, out);
}

void FlatState::load(std::map<std::string, const Tensor*>& given) {
  Tensor whole =
      parameters_.sharded() ? Tensor::zeros({begin_.back()}, flat_.dtype(), flat_.device()) : flat_;
  NamedTensors places;
  name_places(whole, places);
  for (auto& [name, place] : places) {
    const auto found = given.find(name);
    require(found != given.end() && found->second->shape() == place.shape(),
            "optimizer state: {} is missing or not {}", name, place.str());
    place.copy_from(*found->second);
    given.erase(found);
  }
  if (!parameters_.sharded()) return;
  const size_t own = size_t(parameters_.communicator().rank());
  flat_.copy_from(whole.slice(0, begin_[own], begin_[own + 1]));
}

}  // namespace reverie
