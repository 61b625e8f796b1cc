// Llama 3 from Hugging Face folders: config.json, model.safetensors or sharded safetensors with an
// index.
//
//   Llama3 model(read_hf_llama3_config(folder), op);
//   ... materialise ...
//   load_hf_llama3(model, folder);
//
// Where ranks hold parts (parallel/fsdp/sharded_parameters.h):
//
//   load_hf_llama3(model.config(), parameters.named(parameters.masters()), folder);
//   parameters.refresh();
//
// Tessera's names and layout are those of models/llama3/llama3.h, which are TorchTitan's.
#pragma once

#include <string>
#include <vector>

#include "data/files/safetensors.h"
#include "models/llama3/llama3.h"
#include "parallel/fsdp/sharded_parameters.h"

namespace tessera {

// Reads config.json, in the style of transformers 5 (rope_parameters, dtype) and of the hub before
// it (rope_theta, rope_scaling, torch_dtype). Sizes must be there; other keys that are absent or
// null have the default of transformers' LlamaConfig. Throws c10::Error naming the file when it
// cannot be read or is not JSON, and naming file, key and value for what this model cannot express
// (model_type, attention_bias, mlp_bias, hidden_act, rope_type, ...).
Llama3Config read_hf_llama3_config(const std::string& folder);

// Copies the folder's weights into the model's materialised parameters, cast to their dtype; rows
// of q_proj and k_proj are permuted from halves to adjacent pairs. Throws c10::Error that names
// missing, unexpected and mis-shaped tensors, before any parameter is written. RoPE frequencies in
// the folder are ignored, and so is the head of a tied model if it equals the embedding; one that
// differs is refused. Overloads for other holders of parameters have the same rules.
void load_hf_llama3(Llama3& model, const std::string& folder);

// Copies into tensors by Tessera's names, e.g. the float32 masters of a model that computes in
// bfloat16.
void load_hf_llama3(const Llama3Config& config, const NamedTensors& parameters,
                    const std::string& folder);

// Copies into this rank's parts; a rank need not have parts of every parameter. q_proj and k_proj
// are read whole, as their permutation crosses parts; of other tensors only the part's rows are
// read.
void load_hf_llama3(const Llama3Config& config, const std::vector<NamedShard>& parts,
                    const std::string& folder);

// Hugging Face's name of the parameter `name`, which is Tessera's name without suffix or prefix:
// "layers.0.attention.wq.weight" -> "model.layers.0.self_attn.q_proj.weight". Throws c10::Error for
// a name that Llama 3 does not have.
std::string hf_llama3_name(const std::string& name);

// A whole gradient or weight of Tessera's in Hugging Face's layout, for comparisons and export. A
// copy for wq and wk, else the tensor itself. Throws c10::Error when wq or wk does not
// have heads * head_dim rows.
at::Tensor to_hf_llama3_layout(const Llama3Config& config, const std::string& name,
                               const at::Tensor& tensor);

// The inverse of to_hf_llama3_layout, for a tensor read from a Hugging Face file. `name` is
// Tessera's in both functions, and the errors are the same.
at::Tensor from_hf_llama3_layout(const Llama3Config& config, const std::string& name,
                                 const at::Tensor& tensor);

}  // namespace tessera
