// What a JobConfig asks for, as the types of the parts below: the only place that translates
// configuration keys. The configuration must have passed load_config's checks.
//
//   const at::Device device = choose_device(environment);
//   const World world = join_world(environment, config, device);
//   const DeviceMesh mesh(world, layout.dims);
//   ParameterStore parameters(blocks, parameter_store_options(config, device), job_seed(config),
//                             parameter_groups(mesh));
#pragma once

#include <ATen/core/Tensor.h>

#include <memory>
#include <string>

#include "configs/job_config.h"
#include "data/loader/dataloader.h"
#include "models/registry.h"
#include "parallel/comm/device_mesh.h"
#include "parallel/context/context_parallel.h"
#include "trainer/job/job_layout.h"
#include "trainer/launch/environment.h"
#include "trainer/metrics/run_summary.h"
#include "trainer/step/lr_schedule.h"
#include "trainer/step/rank_model.h"
#include "trainer/step/training_step.h"
#include "trainer/support/extensions.h"

namespace tessera {

// What model.attention asks for, by kind of layer (attention/registry/attention_choice.h); "auto"
// is "flex" on the CPU and "sdpa" elsewhere.
std::string attention_backend(const JobConfig& config, at::Device device);

// Joins the other ranks of the launch. Throws CommError when they do not meet within [comm]
// init_timeout_seconds. A single process joins nobody and gets a default World.
World join_world(const Environment& environment, const JobConfig& config, at::Device device);

// How much each mask over rows counts in a balance of context parallelism: the layers of a whole
// model that attend by it.
WorkWeights work_weights(Model& model);

ContextParallel context_parallel(const JobConfig& config, const DeviceMesh& mesh,
                                 const WorkWeights& weights);
ModelRequest model_request(const JobConfig& config, at::Device device);

// Builds the model that the configuration names, or a stage of it, from what the registries list.
MakeModel model_maker(const JobConfig& config, at::Device device, const Registries& registries);

// How the masks of the chosen attention are built for a model of this mask configuration.
CreateMaskFn mask_function(const JobConfig& config, at::Device device, const Registries& registries,
                           const MaskConfig& mask_config);

ParameterStoreOptions parameter_store_options(const JobConfig& config, at::Device device);

// What this rank of the job trains. weights: work_weights() of the whole model.
RankModelOptions rank_model_options(const JobConfig& config, const JobLayout& layout,
                                    const DeviceMesh& mesh, at::Device device,
                                    const WorkWeights& weights);
TrainingStepOptions training_step_options(const JobConfig& config);
LrScheduleOptions lr_schedule_options(const JobConfig& config);

// Every how many layers activations are recomputed: 0 is none, 1 all.
int64_t recompute_every_nth_layer(const JobConfig& config);

// The seed of initial weights and document order; 0 when the configuration gives none, so that runs
// repeat by default.
uint64_t job_seed(const JobConfig& config);

// Opens training.dataset. Throws c10::Error naming training.dataset_path when there is nothing to
// read.
std::unique_ptr<TextSource> open_dataset(const JobConfig& config);

// Opens the tokenizer that model.tokenizer names among those of the registries. Throws as
// open_tokenizer of data/tokenizers/open_tokenizer.h does.
std::shared_ptr<const Tokenizer> open_tokenizer(const JobConfig& config,
                                                const Registries& registries);

DataLoaderOptions dataloader_options(const JobConfig& config);

// Bytes that the job will write below its dump folder, estimated, for the check before training
// starts: records, plot and log, and with checkpoint.enable two checkpoints of float32 weights and
// moments.
int64_t expected_output_bytes(const JobConfig& config, int64_t num_parameters);

// What the start banner says (trainer/metrics/run_summary.h). model: the whole model.
BannerInfo banner_info(const JobConfig& config, const JobLayout& layout, Model& model,
                       const Tokenizer& tokenizer, int64_t num_documents, at::Device device);

}  // namespace tessera
