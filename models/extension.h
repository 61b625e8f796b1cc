// Attention functions, mask rules and mask forms from a shared library outside of this tree, which
// `experimental.custom_import` names. docs/examples/custom_attention is a whole project.
//
//   #include "models/extension.h"
//   TESSERA_EXTENSION(registries) {
//     registries.attention.add({.name = "mine", .function = my_attention});
//   }
//
// The library links LibTorch and the target Tessera::extension, which is headers only: functions of
// ours come from the program that loads it, so types, vtables and registries are one and the same
// on both sides. C++ has no stable ABI, so library and program must be built from the same headers
// with the same compiler family and LibTorch; the program compares `extension_abi` before anything
// else.
#pragma once

#include <torch/headeronly/version.h>

#include <cstdint>

#include "attention/registry/mask_registry.h"
#include "attention/registry/registry.h"

namespace tessera {

// What an extension adds to. Lives until it returns; a run has its own, so nothing is global.
struct ExtensionRegistries {
  AttentionRegistry& attention;
  MaskRegistry& masks;
};

// What must be equal in a library and the program that loads it.
struct ExtensionAbi {
  const char* tessera_version;
  const char* libtorch_version;
  int32_t compiler_abi;  // of GCC and of compilers compatible with it
  int32_t cxx11_strings;
  uint64_t layout;  // of the types that cross the border
};

// Evaluated by the compiler that sees it: a function could be taken from the program at load time
// and would then agree with it always.
consteval ExtensionAbi extension_abi() {
  uint64_t layout = 0;
  for (const size_t size :
       {sizeof(AttentionBackend), sizeof(AttentionBinding), sizeof(AttentionOptions),
        sizeof(AttentionOutput), sizeof(AttentionRegistry), sizeof(BlockMask),
        sizeof(BlockMaskData), sizeof(MaskArguments), sizeof(MaskConfig), sizeof(MaskContext),
        sizeof(MaskForm), sizeof(MaskMod), sizeof(MaskRegistry), sizeof(MaskRule),
        sizeof(MaskShape)}) {
    layout = layout * 1000003 + size;
  }
  return {TESSERA_VERSION, TORCH_VERSION, __GXX_ABI_VERSION, _GLIBCXX_USE_CXX11_ABI, layout};
}

}  // namespace tessera

// Once in a library, followed by the body of a function that adds to `registries`.
#define TESSERA_EXTENSION(registries)                                                \
  extern "C" __attribute__((visibility("default"))) tessera::ExtensionAbi            \
  tessera_extension_abi() {                                                          \
    return tessera::extension_abi();                                                 \
  }                                                                                  \
  extern "C" __attribute__((visibility("default"))) void tessera_register_extension( \
      tessera::ExtensionRegistries& registries)
