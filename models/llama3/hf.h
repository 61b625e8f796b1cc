// Llama 3 from Hugging Face folders: config.json, model.safetensors or sharded safetensors with an
// index.
//
//   Llama3 model(read_hf_llama3_config(folder), op);
//   ... materialise ...
//   load_hf_llama3(model, folder);
#pragma once

#include <string>
#include <vector>

#include "data/files/safetensors.h"
#include "models/llama3/llama3.h"
#include "parallel/fsdp/sharded_parameters.h"

namespace tessera {

// Reads config.json, in the style of transformers 5 (rope_parameters, dtype) and of the hub before
// it (rope_theta, rope_scaling, torch_dtype). Sizes must be there; what else is absent has the
// default of transformers' LlamaConfig. Throws c10::Error naming file, key and value for what this
// model cannot express (model_type, attention_bias, mlp_bias, hidden_act, rope_type, ...).
Llama3Config read_hf_llama3_config(const std::string& folder);

// Copies the folder's weights into the model's materialised parameters, cast to their dtype; rows
// of q_proj and k_proj are permuted from halves to adjacent pairs. Throws c10::Error that names
// missing, unexpected and mis-shaped tensors, before any parameter is written.
void load_hf_llama3(Llama3& model, const std::string& folder);

// The same into tensors by our names, e.g. the float32 masters of a model that computes in
// bfloat16.
void load_hf_llama3(const Llama3Config& config, const NamedTensors& parameters,
                    const std::string& folder);

// The same into this rank's parts; a rank need not have parts of every parameter. Of q_proj and
// k_proj the whole is read, as their permutation crosses parts; of the others only the rows of the
// part.
void load_hf_llama3(const Llama3Config& config, const std::vector<NamedShard>& parts,
                    const std::string& folder);

// A gradient or weight of ours in Hugging Face's layout and name, for comparisons and export.
// `name` is ours, without suffix or prefix; throws c10::Error for a name that Llama 3 does not
// have.
std::string hf_llama3_name(const std::string& name);
at::Tensor to_hf_llama3_layout(const Llama3Config& config, const std::string& name,
                               const at::Tensor& tensor);

// The inverse: a tensor read from a Hugging Face file in our layout; `name` is again ours.
at::Tensor from_hf_llama3_layout(const Llama3Config& config, const std::string& name,
                                 const at::Tensor& tensor);

}  // namespace tessera
