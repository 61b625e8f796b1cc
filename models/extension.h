// How a shared library outside of this tree adds attention functions, mask rules, mask forms and
// tokenizers to a run whose `experimental.custom_import` names it. docs/examples has a custom
// attention and a custom tokenizer.
//
//   #include "models/extension.h"
//   TESSERA_EXTENSION(registries) {
//     registries.attention.add({.name = "mine", .function = my_attention});
//   }
//
// The library links LibTorch and the target Tessera::extension, which is headers only: Tessera's
// functions come from the program that loads it, so types, vtables and registries are one and the
// same on both sides. C++ has no stable ABI, so library and program must be built from the same
// headers with the same compiler family and LibTorch; the program compares `extension_abi` before
// anything else and refuses a library that differs with c10::Error (trainer/support/extensions.h).
// An exception of the library's function becomes a c10::Error that names the library.
#pragma once

#include <torch/headeronly/version.h>

#include <cstdint>

#include "attention/registry/mask_registry.h"
#include "attention/registry/registry.h"
#include "data/tokenizers/open_tokenizer.h"

namespace tessera {

// The registries of the run that loads the library; every run has its own, so nothing is global.
// The struct itself lives only during the call of the library's function.
struct ExtensionRegistries {
  AttentionRegistry& attention;
  MaskRegistry& masks;
  TokenizerRegistry& tokenizers;
};

// The versions and layouts that must be equal in a library and in the program that loads it.
struct ExtensionAbi {
  const char* tessera_version;
  const char* libtorch_version;
  int32_t compiler_abi;  // of GCC and of compilers compatible with it
  int32_t cxx11_strings;
  uint64_t layout;  // hash of the sizes of the types that cross the border
};

// The ABI of whoever compiles the call. It is consteval because an ordinary function could be taken
// from the program at load time, and the library would then always agree with the program.
consteval ExtensionAbi extension_abi() {
  uint64_t layout = 0;
  for (const size_t size :
       {sizeof(AttentionBackend), sizeof(AttentionBinding), sizeof(AttentionOptions),
        sizeof(AttentionOutput), sizeof(AttentionRegistry), sizeof(BlockMask),
        sizeof(BlockMaskData), sizeof(MaskArguments), sizeof(MaskConfig), sizeof(MaskContext),
        sizeof(MaskForm), sizeof(MaskMod), sizeof(MaskRegistry), sizeof(MaskRule),
        sizeof(MaskShape), sizeof(Tokenizer), sizeof(TokenizerEntry), sizeof(TokenizerOptions),
        sizeof(TokenizerRegistry)}) {
    layout = layout * 1000003 + size;
  }
  return {TESSERA_VERSION, TORCH_VERSION, __GXX_ABI_VERSION, _GLIBCXX_USE_CXX11_ABI, layout};
}

}  // namespace tessera

// Stands once in a library, followed by the body of a function that adds to `registries`, an
// ExtensionRegistries&. Exports the two functions that the program looks up by name.
#define TESSERA_EXTENSION(registries)                                                \
  extern "C" __attribute__((visibility("default"))) tessera::ExtensionAbi            \
  tessera_extension_abi() {                                                          \
    return tessera::extension_abi();                                                 \
  }                                                                                  \
  extern "C" __attribute__((visibility("default"))) void tessera_register_extension( \
      tessera::ExtensionRegistries& registries)
