# Target "docs": the reference of the rooms' headers, by Doxygen where it is installed, in build/<preset>/docs/html. A warning is an error.
find_program(REVERIE_DOXYGEN_PROGRAM doxygen)
if(REVERIE_DOXYGEN_PROGRAM)
  file(CONFIGURE OUTPUT ${PROJECT_BINARY_DIR}/Doxyfile CONTENT
    "@INCLUDE = docs/Doxyfile\nOUTPUT_DIRECTORY = \"${PROJECT_BINARY_DIR}/docs\"\n")
  add_custom_target(docs COMMAND ${CMAKE_COMMAND} -E make_directory ${PROJECT_BINARY_DIR}/docs
    COMMAND ${REVERIE_DOXYGEN_PROGRAM} ${PROJECT_BINARY_DIR}/Doxyfile WORKING_DIRECTORY ${PROJECT_SOURCE_DIR} VERBATIM)
else()
  add_custom_target(docs COMMAND ${CMAKE_COMMAND} -E echo "doxygen is not installed (Debian: doxygen)" COMMAND ${CMAKE_COMMAND} -E false)
endif()
