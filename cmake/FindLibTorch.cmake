# Imports LibTorch from the `torch` wheel without its own CMake package, which refuses CUDA wheels unless the whole
# CUDA toolkit is there. CPU and CUDA wheels are treated alike; no CUDA compiler is needed here.
#
# Looks, in this order, for a folder that holds lib/libtorch_cpu.so:
#   1. -DTORCH_ROOT=...              the package folder itself
#   2. CMAKE_PREFIX_PATH             <prefix>, <prefix>/torch, or the wheel's <prefix>/share/cmake
#   3. .venv of this checkout        what scripts/setup.sh makes
#   4. python3's own torch
#
# Defines: LibTorch::headers (system headers, no libraries), LibTorch::torch (headers, libraries, rpath),
#          TORCH_ROOT, LibTorch_VERSION, LibTorch_HAS_CUDA.

function(_libtorch_is_root folder result)
  if(EXISTS "${folder}/lib/libtorch_cpu.so" AND EXISTS "${folder}/include/ATen/ATen.h")
    set(${result} TRUE PARENT_SCOPE)
  else()
    set(${result} FALSE PARENT_SCOPE)
  endif()
endfunction()

function(_libtorch_find_root result)
  set(candidates)
  foreach(prefix IN LISTS CMAKE_PREFIX_PATH)
    list(APPEND candidates "${prefix}" "${prefix}/torch" "${prefix}/../..")
  endforeach()
  file(GLOB in_venv "${CMAKE_SOURCE_DIR}/.venv/lib/python3*/site-packages/torch")
  list(APPEND candidates ${in_venv})
  execute_process(
    COMMAND python3 -c "import importlib.util as u; s = u.find_spec('torch'); print(s.submodule_search_locations[0] if s else '')"
    OUTPUT_VARIABLE in_python OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
  if(in_python)
    list(APPEND candidates "${in_python}")
  endif()
  foreach(candidate IN LISTS candidates)
    _libtorch_is_root("${candidate}" found)
    if(found)
      get_filename_component(candidate "${candidate}" REALPATH)
      set(${result} "${candidate}" PARENT_SCOPE)
      return()
    endif()
  endforeach()
  set(${result} "" PARENT_SCOPE)
endfunction()

if(NOT TORCH_ROOT)
  _libtorch_find_root(_root)
  set(TORCH_ROOT "${_root}" CACHE PATH "folder of the torch package (holds lib/ and include/)" FORCE)
endif()
_libtorch_is_root("${TORCH_ROOT}" _libtorch_ok)

if(_libtorch_ok AND EXISTS "${TORCH_ROOT}/version.py")
  file(STRINGS "${TORCH_ROOT}/version.py" _version_line REGEX "^__version__ = ")
  string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+" LibTorch_VERSION "${_version_line}")
elseif(_libtorch_ok AND EXISTS "${TORCH_ROOT}/build-version")
  file(STRINGS "${TORCH_ROOT}/build-version" _version_line)
  string(REGEX MATCH "[0-9]+\\.[0-9]+\\.[0-9]+" LibTorch_VERSION "${_version_line}")
endif()

include(FindPackageHandleStandardArgs)
set(LibTorch_ROOT_OK "${_libtorch_ok}")
find_package_handle_standard_args(LibTorch
  REQUIRED_VARS TORCH_ROOT LibTorch_ROOT_OK VERSION_VAR LibTorch_VERSION
  REASON_FAILURE_MESSAGE "run scripts/setup.sh, or give -DTORCH_ROOT=<folder of the torch package>")

if(LibTorch_FOUND AND NOT TARGET LibTorch::torch)
  find_package(Threads REQUIRED)
  set(_libraries)
  foreach(name c10 torch_cpu torch c10_cuda torch_cuda)
    if(EXISTS "${TORCH_ROOT}/lib/lib${name}.so")
      list(APPEND _libraries "${TORCH_ROOT}/lib/lib${name}.so")
    endif()
  endforeach()

  add_library(LibTorch::headers INTERFACE IMPORTED)
  target_include_directories(LibTorch::headers SYSTEM INTERFACE
    "${TORCH_ROOT}/include" "${TORCH_ROOT}/include/torch/csrc/api/include")
  # AT_PER_OPERATOR_HEADERS: LibTorch's own headers then include the few operators they use instead of all 2,500, which
  # takes a third to two fifths off the time to read them.
  target_compile_definitions(LibTorch::headers INTERFACE
    AT_PER_OPERATOR_HEADERS USE_DISTRIBUTED USE_C10D_GLOO USE_RPC USE_TENSORPIPE)

  # Kernels register themselves in static initialisers: keep every library although no symbol of it may be used.
  add_library(LibTorch::torch INTERFACE IMPORTED)
  target_link_libraries(LibTorch::torch INTERFACE LibTorch::headers Threads::Threads
    -Wl,--push-state,--no-as-needed ${_libraries} -Wl,--pop-state)
  target_link_options(LibTorch::torch INTERFACE "LINKER:-rpath,${TORCH_ROOT}/lib")

  set(LibTorch_HAS_CUDA FALSE)
  if(EXISTS "${TORCH_ROOT}/lib/libtorch_cuda.so")
    set(LibTorch_HAS_CUDA TRUE)
    get_filename_component(_site "${TORCH_ROOT}" DIRECTORY)
    file(GLOB _cudart "${_site}/nvidia/cu*/lib/libcudart.so.*" "${_site}/nvidia/cuda_runtime/lib/libcudart.so.*")
    target_link_libraries(LibTorch::torch INTERFACE ${_cudart})
  endif()
endif()
