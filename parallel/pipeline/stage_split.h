// StageModules: which modules of a model each pipeline stage holds.
//
//   split_evenly({.num_stages = 4, .num_layers = 6})
//     {embedding, layer 0}  {layers 1, 2}  {layers 3, 4}  {layer 5, head}
//
// The rules, names and defaults are TorchTitan's (torchtitan/distributed/pipeline_parallel.py):
// the embedding counts as `first_stage_less_layers` layers and the head as
// `last_stage_less_layers`, and the first stages take what does not divide.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace tessera::pipeline {

// The modules of one stage, as a model's constructor needs to know them (models/placement.h). A
// module that is absent passes its input through.
struct StageModules {
  bool embedding = false;
  int64_t first_layer = 0;
  int64_t end_layer = 0;  // one past the last
  bool head = false;      // the final norm and the output layer

  int64_t num_layers() const { return end_layer - first_layer; }
  // The stage's modules by TorchTitan's names: "tok_embeddings", "layers.N", "norm", "output".
  std::vector<std::string> names() const;
  bool operator==(const StageModules&) const = default;
};

struct EvenSplit {
  int64_t num_stages = 1;
  int64_t num_layers = 0;
  int64_t first_stage_less_layers = 1;
  int64_t last_stage_less_layers = 1;
};

// The modules of each stage, in order. Throws c10::Error with the numbers when there are more
// stages than layers (the embedding and the head counted as above), and naming the TorchTitan key
// when the embedding or the head counts for more than a stage holds.
std::vector<StageModules> split_evenly(const EvenSplit& split);

// The number of stages of at most layers_per_stage layers, with the embedding and the head counted
// as above; split.num_stages is not looked at. Throws c10::Error unless layers_per_stage >= 1.
int64_t num_stages_for(int64_t layers_per_stage, const EvenSplit& split);

// The stages with modules of these names, as `module_fqns_per_model_part` gives them. Throws
// c10::Error naming stage and module unless the stages in order hold the embedding, every layer,
// the norm and the output layer, each once and in order; norm and output belong to one stage.
std::vector<StageModules> split_by_names(const std::vector<std::vector<std::string>>& names,
                                         int64_t num_layers);

}  // namespace tessera::pipeline
