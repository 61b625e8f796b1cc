# `cmake --install build/release --prefix P`: the program, the libraries, the headers, and find_package(Tessera).
#
#   Tessera::extension    headers only, for shared libraries that `experimental.custom_import` loads: they take our
#                         functions from the program (models/extension.h)
#   Tessera::attention, Tessera::data, Tessera::parallel, Tessera::models, Tessera::trainer, Tessera::configs
#                         the folders as static libraries (position independent), for programs of your own; they
#                         carry C++20, OpenMP and what they need of nlohmann_json, spdlog and simdjson
#
# docs/examples uses both; tests/out_of_tree_test.cmake builds it against an installation.

include(CMakePackageConfigHelpers)
set(_package_dir lib/cmake/Tessera)

add_library(tessera_extension INTERFACE)
target_include_directories(tessera_extension INTERFACE "$<INSTALL_INTERFACE:include/tessera>")
target_compile_features(tessera_extension INTERFACE cxx_std_20)
target_compile_options(tessera_extension INTERFACE -fopenmp)
target_link_libraries(tessera_extension INTERFACE LibTorch::torch)
target_compile_definitions(tessera_extension INTERFACE TESSERA_VERSION="${PROJECT_VERSION}")
set_target_properties(tessera_extension PROPERTIES EXPORT_NAME extension)

get_property(_libraries GLOBAL PROPERTY TESSERA_LIBRARIES)
foreach(library IN LISTS _libraries)
  string(REPLACE "tessera_" "" _name ${library})
  set_target_properties(${library} PROPERTIES EXPORT_NAME ${_name})
endforeach()
install(TARGETS tessera RUNTIME DESTINATION bin)
install(TARGETS ${_libraries} tessera_extension EXPORT Tessera ARCHIVE DESTINATION lib)
install(EXPORT Tessera NAMESPACE Tessera:: DESTINATION ${_package_dir})

foreach(folder attention data parallel models configs trainer)
  install(DIRECTORY "${PROJECT_SOURCE_DIR}/${folder}" DESTINATION include/tessera FILES_MATCHING PATTERN "*.h")
endforeach()

configure_package_config_file("${CMAKE_CURRENT_LIST_DIR}/TesseraConfig.cmake.in"
  "${PROJECT_BINARY_DIR}/TesseraConfig.cmake" INSTALL_DESTINATION ${_package_dir})
write_basic_package_version_file("${PROJECT_BINARY_DIR}/TesseraConfigVersion.cmake" COMPATIBILITY ExactVersion)
install(FILES "${PROJECT_BINARY_DIR}/TesseraConfig.cmake" "${PROJECT_BINARY_DIR}/TesseraConfigVersion.cmake"
  "${CMAKE_CURRENT_LIST_DIR}/FindLibTorch.cmake" DESTINATION ${_package_dir})
