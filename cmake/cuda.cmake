# REVERIE_CUDA: off, emulated, on, or auto (on where both nvcc and a GPU are found, else off). The outcome is REVERIE_CUDA_FLAVOUR.
# Only `on` needs anything of NVIDIA's; the emulation compiles the same kernels with the host's compiler.
set(REVERIE_CUDA "auto" CACHE STRING "CUDA kernels: auto, off, emulated or on")
set_property(CACHE REVERIE_CUDA PROPERTY STRINGS auto off emulated on)
if(NOT REVERIE_CUDA MATCHES "^(auto|off|emulated|on)$")
  message(FATAL_ERROR "REVERIE_CUDA is '${REVERIE_CUDA}'; wanted auto, off, emulated or on")
endif()

set(REVERIE_CUDA_FLAVOUR ${REVERIE_CUDA})
if(REVERIE_CUDA STREQUAL "auto")
  set(REVERIE_CUDA_FLAVOUR off)
  find_program(REVERIE_NVCC nvcc HINTS /usr/local/cuda/bin)
  if(REVERIE_NVCC AND EXISTS /dev/nvidiactl)
    set(REVERIE_CUDA_FLAVOUR on)
  endif()
endif()

if(REVERIE_CUDA_FLAVOUR STREQUAL "on")
  # 8.0 (A100) and 9.0 (H100); GPUs after them translate the PTX of 9.0.
  if(NOT DEFINED CMAKE_CUDA_ARCHITECTURES)
    set(CMAKE_CUDA_ARCHITECTURES 80-real 90)
  endif()
  set(CMAKE_CUDA_RUNTIME_LIBRARY Static)
  enable_language(CUDA)
  # CMake 3.25 does not know nvcc's C++20, and must not look for it before.
  if(NOT DEFINED CMAKE_CUDA20_STANDARD_COMPILE_OPTION)
    set(CMAKE_CUDA20_STANDARD_COMPILE_OPTION "-std=c++20")
    set(CMAKE_CUDA20_EXTENSION_COMPILE_OPTION "-std=c++20")
  endif()
  set(CMAKE_CUDA_STANDARD 20)
  set(CMAKE_CUDA_STANDARD_REQUIRED ON)
  find_package(CUDAToolkit REQUIRED)
endif()
message(STATUS "CUDA kernels: ${REVERIE_CUDA_FLAVOUR}")
