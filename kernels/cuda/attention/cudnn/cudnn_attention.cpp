// cuDNN's scaled dot-product attention as a graph of one node, by its C++ front end.

#include "kernels/cuda/attention/cudnn/cudnn_attention.h"

#include <cudnn_frontend.h>

#include <map>
#include <memory>
#include <mutex>
#include <unordered_map>

#include "core/cuda.h"
#include "core/error.h"
#include "kernels/copy.h"

namespace reverie::cuda {
namespace {

namespace frontend = cudnn_frontend;
using frontend::graph::Graph;
using Attributes = frontend::graph::Tensor_attributes;
using Node = std::shared_ptr<Attributes>;

constexpr int64_t kLongestHead = 128, kHeadStep = 8;

// What calls with one graph have in common.
struct Problem {
  bool backward;
  int64_t batch, heads, kv_heads, queries, keys, dim;
  float scale;
  auto operator<=>(const Problem&) const = default;
};

// How graphs and calls name the same tensor.
enum Name : int64_t {
  kQuery = 1,
  kKey,
  kValue,
  kOutput,
  kLogSumExp,
  kGradOutput,
  kGradQuery,
  kGradKey,
  kGradValue
};
using Addresses = std::unordered_map<int64_t, void*>;

// Ours are [B, T, H, D], contiguous; the library counts dimensions as [B, H, T, D].
Attributes rows_of_heads(Name name, int64_t batch, int64_t heads, int64_t rows, int64_t dim) {
  return Attributes()
      .set_uid(name)
      .set_dim({batch, heads, rows, dim})
      .set_stride({rows * heads * dim, dim, heads * dim, 1});
}
void deliver(const Node& node, const Attributes& as) {
  node->set_output(true)
      .set_uid(as.get_uid())
      .set_dim(as.get_dim())
      .set_stride(as.get_stride())
      .set_data_type(as.get_data_type());
}

class Plan {
 public:
  Plan(cudnnHandle_t handle, const Problem& p) {
    graph_.set_io_data_type(frontend::DataType_t::BFLOAT16)
        .set_intermediate_data_type(frontend::DataType_t::FLOAT)
        .set_compute_data_type(frontend::DataType_t::FLOAT);
    const Attributes query = rows_of_heads(kQuery, p.batch, p.heads, p.queries, p.dim),
                     key = rows_of_heads(kKey, p.batch, p.kv_heads, p.keys, p.dim),
                     value = rows_of_heads(kValue, p.batch, p.kv_heads, p.keys, p.dim),
                     output = rows_of_heads(kOutput, p.batch, p.heads, p.queries, p.dim);
    const auto log_sum_exp = Attributes()
                                 .set_uid(kLogSumExp)
                                 .set_dim({p.batch, p.heads, p.queries, 1})
                                 .set_stride({p.heads * p.queries, p.queries, 1, 1})
                                 .set_data_type(frontend::DataType_t::FLOAT);
    const Node q = graph_.tensor(query), k = graph_.tensor(key), v = graph_.tensor(value);
    if (p.backward) {
      const auto grads = graph_.sdpa_backward(
          q, k, v, graph_.tensor(output),
          graph_.tensor(rows_of_heads(kGradOutput, p.batch, p.heads, p.queries, p.dim)),
          graph_.tensor(log_sum_exp),
          causal(frontend::graph::SDPA_backward_attributes(), p).set_deterministic_algorithm(true));
      deliver_bf16(grads[0], rows_of_heads(kGradQuery, p.batch, p.heads, p.queries, p.dim));
      deliver_bf16(grads[1], rows_of_heads(kGradKey, p.batch, p.kv_heads, p.keys, p.dim));
      deliver_bf16(grads[2], rows_of_heads(kGradValue, p.batch, p.kv_heads, p.keys, p.dim));
    } else {
      const auto results = graph_.sdpa(
          q, k, v, causal(frontend::graph::SDPA_attributes(), p).set_generate_stats(true));
      deliver_bf16(results[0], output);
      deliver(results[1], log_sum_exp);
    }
    possible_ = graph_.build(handle, {frontend::HeurMode_t::A}).is_good() &&
                graph_.get_workspace_size(workspace_).is_good();
  }

  // False: the library has no way for this problem on this GPU.
  bool possible() const { return possible_; }
  void run(cudnnHandle_t handle, Addresses addresses) {
    Tensor workspace = Tensor::empty({workspace_}, DType::u8,
                                     Device{DeviceKind::cuda, 0});  // by the stream's order
    auto done = graph_.execute(handle, addresses, workspace.mutable_raw());
    if (done.is_bad()) throw MachineError("cuDNN: attention: " + done.get_message());
  }

 private:
  // Query i sees the keys up to keys - queries + i.
  template <class Options>
  static Options causal(Options options, const Problem& p) {
    return options.set_attn_scale(p.scale)
        .set_diagonal_alignment(p.queries == p.keys ? frontend::DiagonalAlignment_t::TOP_LEFT
                                                    : frontend::DiagonalAlignment_t::BOTTOM_RIGHT)
        .set_diagonal_band_right_bound(0);
  }
  static void deliver_bf16(const Node& node, Attributes as) {
    deliver(node, as.set_data_type(frontend::DataType_t::BFLOAT16));
  }

  Graph graph_;
  bool possible_ = false;
  int64_t workspace_ = 0;
};

struct Library {
  std::mutex mutex;
  cudnnHandle_t handle = nullptr;
  std::map<Problem, std::unique_ptr<Plan>> plans;

  Library() { require_success(cudnnCreate(&handle), "starting"); }
  static void require_success(cudnnStatus_t status, const char* what) {
    if (status != CUDNN_STATUS_SUCCESS)
      throw MachineError(fmt::format("cuDNN: {}: {}", what, cudnnGetErrorString(status)));
  }
};

// Runs the problem's plan, building it the first time; false where there is none.
template <class MakeAddresses>
bool run(const Problem& p, const MakeAddresses& addresses) {
  static auto* library = new Library;  // never destroyed: the driver may go first
  const std::lock_guard lock(library->mutex);
  Library::require_success(cudnnSetStream(library->handle, static_cast<cudaStream_t>(stream())),
                           "choosing a stream");
  std::unique_ptr<Plan>& plan = library->plans[p];
  if (plan == nullptr) plan = std::make_unique<Plan>(library->handle, p);
  if (!plan->possible()) return false;
  plan->run(library->handle, addresses());
  return true;
}

bool serves(const Tensor& query, const Tensor& key, const AttentionOptions& o) {
  const int64_t queries = query.size(1), keys = key.size(1), dim = query.size(3);
  return attention_choice() == AttentionChoice::cudnn && o.bf16 && query.numel() > 0 &&
         o.dropout_p == 0 && o.softcap == 0 && (o.window == 0 || o.window >= keys) &&
         o.first_position + queries == keys && dim % kHeadStep == 0 && dim <= kLongestHead;
}
Problem problem_of(bool backward, const Tensor& query, const Tensor& key,
                   const AttentionOptions& o) {
  return {backward,      query.size(0), query.size(2), key.size(2),
          query.size(1), key.size(1),   query.size(3), float(o.scale)};
}

Tensor room_like(const Tensor& x, DType dtype = DType::bf16) {
  return Tensor::empty(x.shape(), dtype, x.device());
}
Tensor in_bf16(const Tensor& x) {
  Tensor together = x, y = room_like(x);
  if (!x.is_contiguous()) {
    together = room_like(x, x.dtype());
    kernel::strided_copy(x.device(), {x, false, together});
  }
  kernel::cast(x.device(), {together, y});
  return y;
}
// y = x, in f32 and as y lies.
void widen(const Tensor& x, Tensor& y) {
  if (y.is_contiguous()) return kernel::cast(y.device(), {x, y});
  Tensor wide = room_like(y, y.dtype());
  kernel::cast(y.device(), {x, wide});
  kernel::strided_copy(y.device(), {wide, false, y});
}
void* address(const Tensor& x) {
  return const_cast<void*>(x.raw());
}

}  // namespace

bool cudnn_attention_forward(const AttentionForward& a) {
  if (!serves(a.query, a.key, a.options)) return false;
  Tensor query, key, value, output;
  const bool done = run(problem_of(false, a.query, a.key, a.options), [&] {
    query = in_bf16(a.query);
    key = in_bf16(a.key);
    value = in_bf16(a.value);
    output = room_like(a.output);
    return Addresses{{kQuery, address(query)},
                     {kKey, address(key)},
                     {kValue, address(value)},
                     {kOutput, output.mutable_raw()},
                     {kLogSumExp, a.log_sum_exp.mutable_raw()}};
  });
  if (done) widen(output, a.output);
  return done;
}

bool cudnn_attention_backward(const AttentionBackward& a) {
  if (!serves(a.query, a.key, a.options)) return false;
  Tensor query, key, value, output, grad_output, grad_query, grad_key, grad_value;
  const bool done = run(problem_of(true, a.query, a.key, a.options), [&] {
    query = in_bf16(a.query);
    key = in_bf16(a.key);
    value = in_bf16(a.value);
    output = in_bf16(a.output);
    grad_output = in_bf16(a.grad_output);
    grad_query = room_like(a.query);
    grad_key = room_like(a.key);
    grad_value = room_like(a.value);
    return Addresses{{kQuery, address(query)},
                     {kKey, address(key)},
                     {kValue, address(value)},
                     {kOutput, address(output)},
                     {kLogSumExp, address(a.log_sum_exp)},
                     {kGradOutput, address(grad_output)},
                     {kGradQuery, grad_query.mutable_raw()},
                     {kGradKey, grad_key.mutable_raw()},
                     {kGradValue, grad_value.mutable_raw()}};
  });
  if (!done) return false;
  widen(grad_query, a.grad_query);
  widen(grad_key, a.grad_key);
  widen(grad_value, a.grad_value);
  return true;
}

std::string cudnn_library() {
  const size_t version = cudnnGetVersion();
  return fmt::format("cuDNN {}.{}.{}", version / 10000, version / 100 % 100, version % 100);
}

}  // namespace reverie::cuda
