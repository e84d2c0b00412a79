# The CMake package: find_package(reverie) gives reverie::core, ::kernels, ::autograd, ::layers, ::datasets and
# ::trainers, so that a memory module can live in a project of its own (docs/extending.md).
include(CMakePackageConfigHelpers)

set(rooms core kernels autograd layers datasets trainers)
set(room_targets reverie_flags)
# Rooms of the application: the command line needs their library, and nobody else does.
set(not_framework)
foreach(application_room reports checks benchmarks tables serving cli)
  list(APPEND not_framework REGEX "trainers/${application_room}$" EXCLUDE)
endforeach()
set_target_properties(reverie_flags PROPERTIES EXPORT_NAME flags)
foreach(room ${rooms})
  list(APPEND room_targets reverie_${room})
  set_target_properties(reverie_${room} PROPERTIES EXPORT_NAME ${room}
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
  # Headers keep their room's folder: #include "core/error.h" reads the same inside and outside the repository.
  install(DIRECTORY ${room} DESTINATION ${CMAKE_INSTALL_INCLUDEDIR}/reverie
    FILES_MATCHING PATTERN "*.h" PATTERN "*_internal.h" EXCLUDE PATTERN "cpu" EXCLUDE PATTERN "cuda" EXCLUDE
    ${not_framework})
endforeach()
install(TARGETS ${room_targets} EXPORT reverieTargets LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
if(REVERIE_PROGRAM)
  set_target_properties(reverie_application PROPERTIES
    VERSION ${PROJECT_VERSION} SOVERSION ${PROJECT_VERSION_MAJOR}.${PROJECT_VERSION_MINOR})
  install(TARGETS reverie_application LIBRARY DESTINATION ${CMAKE_INSTALL_LIBDIR})
  install(TARGETS reverie RUNTIME DESTINATION ${CMAKE_INSTALL_BINDIR})
endif()

set(package_dir ${CMAKE_INSTALL_LIBDIR}/cmake/reverie)
install(EXPORT reverieTargets NAMESPACE reverie:: DESTINATION ${package_dir})
configure_package_config_file(cmake/reverieConfig.cmake.in ${CMAKE_CURRENT_BINARY_DIR}/reverieConfig.cmake
  INSTALL_DESTINATION ${package_dir})
# Before 1.0 a new minor version may change any interface.
write_basic_package_version_file(${CMAKE_CURRENT_BINARY_DIR}/reverieConfigVersion.cmake COMPATIBILITY SameMinorVersion)
install(FILES ${CMAKE_CURRENT_BINARY_DIR}/reverieConfig.cmake ${CMAKE_CURRENT_BINARY_DIR}/reverieConfigVersion.cmake
  DESTINATION ${package_dir})

install(DIRECTORY docs configs scripts DESTINATION ${CMAKE_INSTALL_DATADIR}/reverie
  PATTERN "__pycache__" EXCLUDE)
install(FILES LICENSE DESTINATION ${CMAKE_INSTALL_DATADIR}/reverie)
