// AttentionBackend: an attention function with what it can do, which a registry lists by name, and
// AttentionBinding, what an AttentionOp is made of.
//
// A backend stands beside its function (sdpa_backend() in attention/backends/sdpa_attention.h); the
// registry lists those that are built in.
#pragma once

#include <any>
#include <memory>
#include <string>
#include <vector>

#include "attention/op/attention.h"
#include "attention/op/attention_args.h"
#include "attention/op/attention_watch.h"
#include "attention/op/capabilities.h"

namespace tessera {

// The entry of a backend in a registry.
struct AttentionBackend {
  std::string name;           // letters, digits and "_"
  std::string description{};  // one line, for listings and the start banner
  AttentionFn function;
  std::string mask_form = "block";  // how its masks are built, a name in a MaskRegistry
  AttentionCapabilities capabilities{};
  AttentionSignature signature{};      // the arguments it takes besides AttentionOptions
  std::vector<std::string> aliases{};  // other names of the backend
};

// The state of an AttentionOp: a backend, bound to its arguments.
struct AttentionBinding {
  std::shared_ptr<const AttentionBackend> backend;
  AttentionArgs args{};   // the arguments that were given when the op was made
  std::any typed_args{};  // the backend's struct made of them
  std::vector<std::shared_ptr<const AttentionBackend>> registered{};  // for messages of refusal
  std::shared_ptr<AttentionWatch> watch{};                            // may be null
};

}  // namespace tessera
