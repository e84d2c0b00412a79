// Linear layers on the device: the bias and the sum for its gradient in the product, where the
// library can, else by parts.

#include "kernels/linear.h"

#include "kernels/cuda/compact_rows.h"
#include "kernels/cuda/gemm/gemm.h"
#include "kernels/cuda/gemm/panels.h"
#include "kernels/elementwise.h"

namespace reverie::cuda {
namespace {

bool on_boundary(const Tensor& t) {
  return reinterpret_cast<uintptr_t>(t.raw()) % kVectorAlignment == 0;
}
// Whether sums of `operand`'s numbers, or of its transpose's, are sums of t's: bf16 for f32 is not.
bool same_numbers(const Tensor& operand, const Tensor& t) {
  return operand.raw() == t.raw() && operand.dtype() == t.dtype() && operand.shape() == t.shape();
}

void run_linear_forward(const LinearForward& args) {
  if (multiply_few_rows({args.x, args.weight, 1.0, false, args.y}, args.bias)) return;
  const bool whole = fits_in_a_panel(args.weight);
  const Tensor bias = on_boundary(args.bias) ? args.bias : args.bias.clone(),
               weight = whole ? wide_operand(args.weight, args.x.dtype()) : args.weight;
  if (!whole || !multiply({args.x, weight, 1.0, false, args.y}, Epilogue::bias, bias))
    linear_forward_by_parts(args.y.device(), {args.x, weight, args.bias, args.y});
}

void run_linear_backward(const LinearBackward& args) {
  const Device device = args.grad_y.device();
  const Tensor& left = args.weight.a;
  const Epilogue epilogue = same_numbers(args.weight.b, args.grad_y)          ? Epilogue::sums_of_b
                            : same_numbers(left.transpose(0, 1), args.grad_y) ? Epilogue::sums_of_a
                                                                              : Epilogue::none;
  const bool direct = !args.accumulate_bias && on_boundary(args.grad_bias);
  Tensor sum = direct ? args.grad_bias
                      : Tensor::empty(args.grad_bias.shape(), args.grad_bias.dtype(), device);
  if (epilogue == Epilogue::none || !multiply(args.weight, epilogue, sum))
    return linear_backward_by_parts(device, args);
  if (args.accumulate_bias)
    kernel::accumulate(device, {sum, 1.0, args.grad_bias});
  else if (!direct)
    args.grad_bias.copy_from(sum);
  if (args.input != nullptr) kernel::matmul(device, *args.input);
}

[[maybe_unused]] const bool reverie_cuda_linear_forward =
    kernel::linear_forward.add_cuda(&run_linear_forward);
[[maybe_unused]] const bool reverie_cuda_linear_backward =
    kernel::linear_backward.add_cuda(&run_linear_backward);

}  // namespace
}  // namespace reverie::cuda
