# cuDNN and its C++ front end, by which attention can run on GPUs: CUDNN_FOUND, CUDNN_VERSION and the target CUDNN::frontend. Looks
# where the CUDA toolkit is and in the system's folders; CUDNN_ROOT and CUDNN_FRONTEND_ROOT name others. Wants CUDAToolkit.
find_path(CUDNN_INCLUDE_DIR cudnn_version.h HINTS ${CUDNN_ROOT} ENV CUDNN_ROOT ${CUDAToolkit_INCLUDE_DIRS} PATH_SUFFIXES include)
find_library(CUDNN_LIBRARY NAMES cudnn libcudnn.so.9 NAMES_PER_DIR HINTS ${CUDNN_ROOT} ENV CUDNN_ROOT ${CUDAToolkit_LIBRARY_DIR} PATH_SUFFIXES lib lib64)
find_path(CUDNN_FRONTEND_INCLUDE_DIR cudnn_frontend.h
  HINTS ${CUDNN_FRONTEND_ROOT} ENV CUDNN_FRONTEND_ROOT ${CUDNN_ROOT} ENV CUDNN_ROOT PATH_SUFFIXES include)
if(CUDNN_INCLUDE_DIR)
  file(STRINGS ${CUDNN_INCLUDE_DIR}/cudnn_version.h cudnn_lines REGEX "^#define CUDNN_(MAJOR|MINOR|PATCHLEVEL) +[0-9]+")
  string(REGEX REPLACE "[^0-9;]" "" cudnn_numbers "${cudnn_lines}")
  string(REPLACE ";" "." CUDNN_VERSION "${cudnn_numbers}")
endif()
mark_as_advanced(CUDNN_INCLUDE_DIR CUDNN_LIBRARY CUDNN_FRONTEND_INCLUDE_DIR)
include(FindPackageHandleStandardArgs)
find_package_handle_standard_args(CUDNN REQUIRED_VARS CUDNN_LIBRARY CUDNN_INCLUDE_DIR CUDNN_FRONTEND_INCLUDE_DIR VERSION_VAR CUDNN_VERSION)
if(CUDNN_FOUND AND NOT TARGET CUDNN::frontend)
  add_library(CUDNN::frontend UNKNOWN IMPORTED)
  set_target_properties(CUDNN::frontend PROPERTIES IMPORTED_LOCATION ${CUDNN_LIBRARY}
    INTERFACE_INCLUDE_DIRECTORIES "${CUDNN_FRONTEND_INCLUDE_DIR};${CUDNN_INCLUDE_DIR};${CUDAToolkit_INCLUDE_DIRS}"
    INTERFACE_LINK_LIBRARIES "CUDA::nvrtc;${CMAKE_DL_LIBS}")  # nvrtc: the front end compiles small kernels of its own
endif()
