#include "kernels/linear.h"

#include "kernels/elementwise.h"
#include "kernels/reduce.h"

namespace reverie {

void linear_forward_by_parts(Device device, const LinearForward& a) {
  kernel::matmul(device, Matmul{a.x, a.weight, 1.0, false, a.y});
  kernel::binary_forward(device, {Binary::add, a.y, a.bias, a.y, a.y.size(0), 1});
}

void linear_backward_by_parts(Device device, const LinearBackward& a) {
  kernel::sum_forward(device, {a.grad_y, 1, a.grad_y.size(0), a.grad_y.size(1), 1.0,
                               a.accumulate_bias, a.grad_bias});
  if (a.input != nullptr)
    kernel::matmul_pair(device, {a.weight, *a.input});
  else
    kernel::matmul(device, a.weight);
}

}  // namespace reverie
