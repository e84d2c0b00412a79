# REVERIE_PORTABLE: a build that runs on other machines (scripts/gpu_bundle.sh). It links no oneDNN (40 MB), MPI, NCCL or cuDNN,
# and looks for shared libraries only in `lib` of its own folder, whose layout is that of a bundle.
option(REVERIE_PORTABLE "Build for a bundle: relative library paths; no oneDNN, MPI, NCCL or cuDNN" OFF)
if(REVERIE_PORTABLE)
  set(CMAKE_LIBRARY_OUTPUT_DIRECTORY ${CMAKE_BINARY_DIR}/lib)
  set(CMAKE_BUILD_WITH_INSTALL_RPATH ON)
  # From libraries, the program, tests, benchmarks and the plug-ins of tests.
  set(CMAKE_INSTALL_RPATH "$ORIGIN" "$ORIGIN/lib" "$ORIGIN/../lib" "$ORIGIN/../../lib")
  # DT_RPATH holds for libraries of libraries, too; those of the system have no path of their own.
  add_link_options(LINKER:--disable-new-dtags)
endif()
