// A job as one of its ranks would build it: groups without connections, parameters without storage.
// Internal to trainer/estimate/.
//
//   const PlannedJob job(config, /*num_ranks=*/512, /*rank=*/0);
//   const std::vector<UnitEvent> events = job.unit_events();
#pragma once

#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "models/llama3/costs.h"
#include "parallel/fsdp/step_bytes.h"
#include "trainer/job/job_layout.h"
#include "trainer/job/job_parts.h"
#include "trainer/step/rank_model.h"

namespace tessera {

// One of the rank's stages; without a pipeline the whole model as stage 0. A unit is a block by its
// place in PlannedJob::blocks.
struct PlannedStage {
  int64_t stage = 0;
  Llama3* model = nullptr;
  Llama3Stage holds = {};
  std::vector<int64_t> units = {};  // of the stage's own blocks
  std::vector<int64_t> uses = {};   // units in the order of a forward; may be of another stage
};

// Calls of attention that a microbatch makes with one mask.
struct AttentionCalls {
  int64_t layers = 0;
  int64_t forwards = 0;  // two for a layer that is recomputed, else one
};

struct PlannedJob {
  // own_model: builds a model instead of the one that the configuration names, with as many layers.
  // job_config must outlive the object. Throws ConfigError for degrees that do not fit the ranks,
  // c10::Error for models without formulas and for tokenizers that do not open.
  PlannedJob(const JobConfig& job_config, int64_t num_ranks, int64_t own_rank,
             MakeModel own_model = {});
  PlannedJob(const PlannedJob&) = delete;
  PlannedJob& operator=(const PlannedJob&) = delete;

  const Llama3Config& llama() const { return stages.front().model->config(); }
  bool has_loss() const { return stages.back().holds.head; }
  const PlannedStage& last_stage() const { return stages.back(); }
  int64_t statistic_bytes() const { return options().compute_dtype == at::kDouble ? 8 : 4; }

  // Microbatches as the model sees them: those of the pipeline where there is one.
  int64_t rows() const;                                                            // of each
  int64_t num_microbatches() const;                                                // of a step
  int64_t row_tokens() const { return config.training.seq_len / layout.dims.cp; }  // on this rank
  Llama3Step microbatch() const;

  int64_t hidden_bytes() const;                                   // of a message between stages
  std::map<std::string, AttentionCalls> attention_calls() const;  // by mask, of all stages
  std::vector<UnitEvent> unit_events() const;                     // of a step, in their order

  const ParameterStoreOptions& options() const { return rank.parameter_options(); }
  int64_t master_bytes() const;
  int64_t compute_bytes() const;

  const JobConfig& config;
  JobLayout layout;
  DeviceMesh mesh;
  Registries registries;
  std::shared_ptr<const Tokenizer> tokenizer;
  MakeModel make;
  WorkWeights weights;  // of the whole model's masks, with context parallelism
  RankModel rank;
  CreateMaskFn create_mask_fn;
  std::vector<Block*> blocks;
  std::vector<ShardLayout> layouts;
  std::vector<PlannedStage> stages;

 private:
  void describe_stages();
};

}  // namespace tessera
