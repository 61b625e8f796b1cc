// What a JobConfig asks for, as the types of the parts below: the only place that translates
// configuration keys.
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
#include "trainer/step/parameter_store.h"
#include "trainer/step/training_step.h"

namespace tessera {

// The device of this rank: CUDA device `local_rank` when LibTorch sees any, else the CPU. Throws
// c10::Error when there are fewer.
at::Device choose_device(const Environment& environment);

// The device's name: the driver's for a CUDA card (nothing when cards of several kinds are there),
// the processor's for the CPU.
std::string device_name(at::Device device);

// The type that a validated dtype key names: "float32", "bfloat16" or "float16".
at::ScalarType scalar_type(const std::string& name);

// What model.attention asks for, by parts (attention/registry/attention_choice.h); "auto" is "flex" on the
// CPU and "sdpa" elsewhere.
std::string attention_backend(const JobConfig& config, at::Device device);

// Joins the other ranks of the launch, within [comm] init_timeout_seconds. Throws CommError.
World join_world(const Environment& environment, const JobConfig& config, at::Device device);

// How many layers of a whole model attend by each mask: how much each counts in a balance.
WorkWeights work_weights(Model& model);
ContextParallel context_parallel(const JobConfig& config, const DeviceMesh& mesh,
                                 const WorkWeights& weights);
ModelPlacement model_placement(const JobConfig& config, const DeviceMesh& mesh);
ModelRequest model_request(const JobConfig& config, at::Device device);
ParameterStoreOptions parameter_store_options(const JobConfig& config, at::Device device);
ParameterGroups parameter_groups(const DeviceMesh& mesh);
TrainingStepOptions training_step_options(const JobConfig& config);
LrScheduleOptions lr_schedule_options(const JobConfig& config);

// Every how many layers activations are recomputed; 0 is none, 1 all.
int64_t recompute_every_nth_layer(const JobConfig& config);

// The seed of initial weights and document order; 0 when the configuration gives none, so that runs
// repeat by default.
uint64_t job_seed(const JobConfig& config);

// Opens training.dataset. Throws c10::Error naming training.dataset_path when there is nothing to
// read.
std::unique_ptr<TextSource> open_dataset(const JobConfig& config);
DataLoaderOptions dataloader_options(const JobConfig& config);

// Bytes that the job will write below its dump folder at least, for the check before training
// starts.
int64_t expected_output_bytes(const JobConfig& config, int64_t num_parameters);

BannerInfo banner_info(const JobConfig& config, const JobLayout& layout, Model& model,
                       const Tokenizer& tokenizer, int64_t num_documents, at::Device device);

}  // namespace tessera
