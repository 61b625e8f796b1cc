# tessera_library(name SOURCES ... LINKS ...)   a folder's static library; LINKS are the folders it may know
# tessera_test(name SOURCES ... LINKS ...)      a folder's test program, one ctest entry per suite

function(_tessera_common target)
  target_include_directories(${target} PUBLIC
    "$<BUILD_INTERFACE:${PROJECT_SOURCE_DIR}>" "$<INSTALL_INTERFACE:include/tessera>")
  target_compile_options(${target} PRIVATE -Wall -Wextra -Werror)
  # What programs outside of the tree compile and link with; in the tree these are settings of all targets.
  target_compile_features(${target} PUBLIC cxx_std_20)
  target_compile_options(${target} PUBLIC "$<INSTALL_INTERFACE:-fopenmp>")
  target_link_options(${target} PUBLIC "$<INSTALL_INTERFACE:-fopenmp>")
endfunction()

function(tessera_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS;PRIVATE_LINKS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  _tessera_common(${name})
  set_property(GLOBAL APPEND PROPERTY TESSERA_LIBRARIES ${name})
  target_link_libraries(${name} PUBLIC LibTorch::torch ${ARG_LINKS} PRIVATE ${ARG_PRIVATE_LINKS})
  target_precompile_headers(${name} REUSE_FROM tessera_pch)
endfunction()

# Sources that must not see LibTorch (its bundled fmt clashes with others) or that need flags of their own.
function(tessera_plain_library name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS;PRIVATE_LINKS" ${ARGN})
  add_library(${name} STATIC ${ARG_SOURCES})
  _tessera_common(${name})
  set_property(GLOBAL APPEND PROPERTY TESSERA_LIBRARIES ${name})
  target_link_libraries(${name} PUBLIC ${ARG_LINKS} PRIVATE ${ARG_PRIVATE_LINKS})
endfunction()

function(tessera_test name)
  cmake_parse_arguments(ARG "" "" "SOURCES;LINKS" ${ARGN})
  add_executable(${name} ${ARG_SOURCES})
  _tessera_common(${name})
  # Tests are compiled once and run once: -O1 halves their build time.
  target_compile_options(${name} PRIVATE $<$<CONFIG:Release>:-O1>)
  target_compile_definitions(${name} PRIVATE
    TESSERA_SOURCE_DIR="${PROJECT_SOURCE_DIR}" TESSERA_BINARY="$<TARGET_FILE_DIR:${name}>/tessera")
  target_link_libraries(${name} PRIVATE LibTorch::torch tessera_test_support ${ARG_LINKS} GTest::gmock GTest::gtest GTest::gtest_main)
  target_precompile_headers(${name} REUSE_FROM tessera_pch)
  # Headers are what tests cost: files of a program are compiled several at a time, and share names.
  set_target_properties(${name} PROPERTIES UNITY_BUILD ON UNITY_BUILD_BATCH_SIZE ${TESSERA_TESTS_AT_ONCE})
  set(suites "${CMAKE_CURRENT_BINARY_DIR}/${name}_suites.cmake")
  add_custom_command(TARGET ${name} POST_BUILD BYPRODUCTS "${suites}" VERBATIM
    COMMAND ${CMAKE_COMMAND} "-DPROGRAM=$<TARGET_FILE:${name}>" -DNAME=${name} "-DOUTPUT=${suites}"
      -P "${PROJECT_SOURCE_DIR}/cmake/TesseraListSuites.cmake")
  set_property(DIRECTORY APPEND PROPERTY TEST_INCLUDE_FILES "${suites}")
endfunction()
