#pragma once
/// One flat gradient buffer and the parameters viewed into it.

#include <vector>

#include "autograd/variable.h"

namespace reverie {

struct FlatGradients {
  struct Part {
    Variable variable;
    int64_t offset = 0;  ///< in elements
    int64_t order = 0;   ///< of construction, over all parameters: backward reaches the last first
  };
  Tensor gradients;
  std::vector<Part> parts;  ///< by offset
};

}  // namespace reverie
