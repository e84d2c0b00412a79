# Quick builds: ccache and mold where they are installed, precompiled headers, and less optimisation for
# code that only directs the work of others.

option(REVERIE_CCACHE "Compile through ccache, where it is installed" ON)
find_program(REVERIE_CCACHE_PROGRAM ccache)
if(REVERIE_CCACHE AND REVERIE_CCACHE_PROGRAM AND NOT CMAKE_CXX_COMPILER_LAUNCHER)
  # Objects made with a precompiled header are cached only with this sloppiness (and -fpch-preprocess, below).
  set(CMAKE_CXX_COMPILER_LAUNCHER ${CMAKE_COMMAND} -E env CCACHE_SLOPPINESS=pch_defines,time_macros CCACHE_DEPEND=1
    ${REVERIE_CCACHE_PROGRAM})
endif()
find_program(REVERIE_MOLD_PROGRAM mold)
if(REVERIE_MOLD_PROGRAM AND NOT REVERIE_FUZZ)
  add_link_options($<$<LINK_LANGUAGE:CXX>:-fuse-ld=mold>)
endif()

# GCC's garbage collector walks all it has read, precompiled headers included, each time its heap has grown past this
# many KiB: an eighth of the time of a large object. It then takes some 50 MB more.
if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
  add_compile_options($<$<COMPILE_LANGUAGE:CXX>:--param=ggc-min-heapsize=524288>)
endif()

# Sources that spend their time in kernels, or waiting: the compiler need not work on their loops. A target's own
# options stand behind CMAKE_CXX_FLAGS_RELEASE, so that this level wins. Under sanitizers, optimising such sources takes
# twice to three times as long as compiling them.
function(reverie_optimise target level)
  if(REVERIE_SANITIZE)
    set(level -O0)
  endif()
  target_compile_options(${target} PRIVATE $<$<AND:$<CONFIG:Release,RelWithDebInfo>,$<COMPILE_LANGUAGE:CXX>>:${level}>)
endfunction()

# Headers that take a second or more to parse, in nearly every file of the target.
function(reverie_precompile target)
  target_precompile_headers(${target} PRIVATE
    "$<$<COMPILE_LANGUAGE:CXX>:<fmt/format.h$<ANGLE-R>>"
    "$<$<COMPILE_LANGUAGE:CXX>:<nlohmann/json.hpp$<ANGLE-R>>"
    "$<$<COMPILE_LANGUAGE:CXX>:<algorithm$<ANGLE-R>>"
    "$<$<COMPILE_LANGUAGE:CXX>:<filesystem$<ANGLE-R>>"
    "$<$<COMPILE_LANGUAGE:CXX>:<functional$<ANGLE-R>>"
    "$<$<COMPILE_LANGUAGE:CXX>:<future$<ANGLE-R>>"
    "$<$<COMPILE_LANGUAGE:CXX>:<map$<ANGLE-R>>")
  foreach(header ${ARGN})
    target_precompile_headers(${target} PRIVATE "$<$<COMPILE_LANGUAGE:CXX>:<${header}$<ANGLE-R>>")
  endforeach()
  if(CMAKE_CXX_COMPILER_ID STREQUAL "GNU")
    target_compile_options(${target} PRIVATE $<$<COMPILE_LANGUAGE:CXX>:-fpch-preprocess>)
  endif()
endfunction()

# The sources of a folder, `most` at a time, are compiled as one: each reads the same headers, which takes longer than
# its own lines. Names that are local to a file must then differ within a folder. CMake's own UNITY_BUILD writes the
# clone's path into every batch, so that a compiler cache would not serve a second clone.
option(REVERIE_BATCHES "Compile the sources of a folder in batches (OFF: each on its own)" ON)
function(reverie_batch target most)
  if(NOT REVERIE_BATCHES)
    return()
  endif()
  get_target_property(sources ${target} SOURCES)
  set(batches)
  foreach(source IN LISTS sources)
    # Those with options of their own stay apart.
    set(apart)
    foreach(property COMPILE_OPTIONS INCLUDE_DIRECTORIES SKIP_PRECOMPILE_HEADERS)
      get_source_file_property(value ${source} ${property})
      if(value)
        set(apart TRUE)
      endif()
    endforeach()
    cmake_path(ABSOLUTE_PATH source BASE_DIRECTORY ${CMAKE_CURRENT_SOURCE_DIR} NORMALIZE OUTPUT_VARIABLE file)
    cmake_path(RELATIVE_PATH file BASE_DIRECTORY ${PROJECT_SOURCE_DIR} OUTPUT_VARIABLE file)
    if(NOT apart AND file MATCHES "\\.cpp$")
      cmake_path(GET file PARENT_PATH folder)
      string(REPLACE "/" "_" folder "${folder}")
      math(EXPR number "${count_${folder}} + 0")
      math(EXPR count_${folder} "${number} + 1")
      math(EXPR number "${number} / ${most}")
      list(APPEND batches ${folder}_${number})
      string(APPEND text_${folder}_${number} "#include \"${file}\"\n")
      set_source_files_properties(${source} PROPERTIES HEADER_FILE_ONLY ON)
    endif()
  endforeach()
  list(REMOVE_DUPLICATES batches)
  foreach(batch IN LISTS batches)
    set(file ${CMAKE_CURRENT_BINARY_DIR}/batches/${target}/${batch}.cpp)
    file(CONFIGURE OUTPUT ${file} CONTENT "${text_${batch}}" @ONLY)
    target_sources(${target} PRIVATE ${file})
  endforeach()
endfunction()
