#include "parallel/pipeline/stage_split.h"

#include <c10/util/Exception.h>

namespace tessera::pipeline {
namespace {

void check_sizes(const EvenSplit& split) {
  TORCH_CHECK(split.num_stages >= 1, "pipeline: got ", split.num_stages,
              " stages, expected at least 1");
  TORCH_CHECK(split.num_layers >= 1, "pipeline: got a model of ", split.num_layers,
              " layers, expected at least 1");
  TORCH_CHECK(split.first_stage_less_layers >= 0 && split.last_stage_less_layers >= 0,
              "pipeline_parallel_first_stage_less_layers and _last_stage_less_layers: got ",
              split.first_stage_less_layers, " and ", split.last_stage_less_layers,
              ", expected 0 or more");
}

// The number of layers, with the embedding and the head counted as layers.
int64_t num_effective_layers(const EvenSplit& split) {
  return split.num_layers + split.first_stage_less_layers + split.last_stage_less_layers;
}

void check_fits(const EvenSplit& split) {
  const int64_t effective = num_effective_layers(split);
  TORCH_CHECK(split.num_stages <= effective, "pipeline: got ", split.num_stages,
              " stages for a model of ", split.num_layers, " layers, expected at most ", effective,
              " (the embedding counts as ", split.first_stage_less_layers, " and the head as ",
              split.last_stage_less_layers, ")");
  const int64_t least = effective / split.num_stages;
  const auto check_edge = [&](const char* key, const char* module, int64_t less_layers) {
    TORCH_CHECK(less_layers <= least, key, ": the ", module, " counts as ", less_layers,
                " layers, expected at most the ", least, " of a stage (", split.num_stages,
                " stages, ", split.num_layers, " layers)");
  };
  check_edge("pipeline_parallel_first_stage_less_layers", "embedding",
             split.first_stage_less_layers);
  check_edge("pipeline_parallel_last_stage_less_layers", "head", split.last_stage_less_layers);
}

std::string layer_name(int64_t layer) { return "layers." + std::to_string(layer); }

std::vector<std::string> all_names(int64_t num_layers) {
  return StageModules{.embedding = true, .end_layer = num_layers, .head = true}.names();
}

// Checks that the names, stage after stage, are those of the whole model.
void check_names(const std::vector<std::vector<std::string>>& names, int64_t num_layers) {
  const std::vector<std::string> expected = all_names(num_layers);
  size_t next = 0;
  for (size_t stage = 0; stage < names.size(); ++stage) {
    TORCH_CHECK(!names[stage].empty(), "module_fqns_per_model_part: stage ", stage,
                " has no modules");
    for (const std::string& name : names[stage]) {
      TORCH_CHECK(next < expected.size() && name == expected[next],
                  "module_fqns_per_model_part: stage ", stage, ": got \"", name, "\", expected ",
                  next < expected.size() ? "\"" + expected[next] + "\"" : "nothing more",
                  "; a model of ", num_layers, " layers is tok_embeddings, layers.0 to ",
                  layer_name(num_layers - 1), ", norm, output, each once and in this order");
      ++next;
    }
  }
  TORCH_CHECK(next == expected.size(), "module_fqns_per_model_part: no stage has \"",
              expected[next], "\"");
  TORCH_CHECK(names.back().front() != "output", "module_fqns_per_model_part: norm is in stage ",
              names.size() - 2, " and output in stage ", names.size() - 1,
              ", expected both in one stage");
}

}  // namespace

std::vector<std::string> StageModules::names() const {
  std::vector<std::string> names;
  if (embedding) names.push_back("tok_embeddings");
  for (int64_t layer = first_layer; layer < end_layer; ++layer) names.push_back(layer_name(layer));
  if (head) names.insert(names.end(), {"norm", "output"});
  return names;
}

std::vector<StageModules> split_evenly(const EvenSplit& split) {
  check_sizes(split);
  if (split.num_stages == 1) {
    return {{.embedding = true, .end_layer = split.num_layers, .head = true}};
  }
  check_fits(split);
  const int64_t least = num_effective_layers(split) / split.num_stages;
  const int64_t num_larger = num_effective_layers(split) % split.num_stages;
  std::vector<StageModules> stages;
  int64_t layer = 0;
  for (int64_t stage = 0; stage < split.num_stages; ++stage) {
    const bool is_first = stage == 0;
    const bool is_last = stage == split.num_stages - 1;
    int64_t num_layers = least + (stage < num_larger ? 1 : 0);
    if (is_first) num_layers -= split.first_stage_less_layers;
    if (is_last) num_layers -= split.last_stage_less_layers;
    stages.push_back({.embedding = is_first,
                      .first_layer = layer,
                      .end_layer = layer + num_layers,
                      .head = is_last});
    layer += num_layers;
  }
  TORCH_INTERNAL_ASSERT(layer == split.num_layers);
  return stages;
}

int64_t num_stages_for(int64_t layers_per_stage, const EvenSplit& split) {
  TORCH_CHECK(layers_per_stage >= 1, "pipeline_parallel_layers_per_stage: got ", layers_per_stage,
              ", expected at least 1");
  check_sizes(split);
  return (num_effective_layers(split) + layers_per_stage - 1) / layers_per_stage;
}

std::vector<StageModules> split_by_names(const std::vector<std::vector<std::string>>& names,
                                         int64_t num_layers) {
  TORCH_CHECK(!names.empty(), "module_fqns_per_model_part: got no stages");
  check_names(names, num_layers);
  std::vector<StageModules> stages;
  int64_t layer = 0;
  for (const std::vector<std::string>& stage_names : names) {
    StageModules stage{.embedding = stage_names.front() == "tok_embeddings",
                       .first_layer = layer,
                       .head = stage_names.back() == "output"};
    const auto num_others = static_cast<int64_t>(stage.embedding) + (stage.head ? 2 : 0);
    layer += static_cast<int64_t>(stage_names.size()) - num_others;
    stage.end_layer = layer;
    stages.push_back(stage);
  }
  return stages;
}

}  // namespace tessera::pipeline
