#include "kernels/linear.h"

namespace reverie::cpu::REVERIE_ISA {
namespace {

void run_linear_forward(const LinearForward& args) {
  linear_forward_by_parts(Device{}, args);
}
void run_linear_backward(const LinearBackward& args) {
  linear_backward_by_parts(Device{}, args);
}

REVERIE_CPU_KERNEL(linear_forward, run_linear_forward);
REVERIE_CPU_KERNEL(linear_backward, run_linear_backward);

}  // namespace
}  // namespace reverie::cpu::REVERIE_ISA
