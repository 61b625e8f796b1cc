// What `tessera estimate` says equals what a run allocates and sends.
#include "trainer/estimate.h"

#include <gtest/gtest.h>

#include <ctime>
#include <nlohmann/json.hpp>

#include "configs/load_config.h"
#include "parallel/activation_checkpoint.h"
#include "tests/support/errors.h"
#include "tests/support/process.h"
#include "tests/support/run_ranks.h"
#include "tests/trainer/job_fixture.h"
#include "trainer/extensions.h"
#include "trainer/job_parts.h"

namespace tessera {
namespace {

using testing::run_ranks;

JobConfig small_job() {
  JobConfig config;
  config.training.local_batch_size = 1;
  config.training.seq_len = 16;
  config.training.mixed_precision_param = "float32";
  config.activation_checkpoint.mode = "none";
  return config;
}

std::vector<Batch> microbatches(const JobConfig& config, const JobLayout& layout) {
  std::vector<int64_t> document;
  for (int64_t i = 0; i < 2 * (config.training.seq_len + 1); ++i) document.push_back(i * i % 250);
  const Batch batch =
      pack_documents({document}, config.training.seq_len).rows(0, config.training.local_batch_size);
  return std::vector<Batch>(static_cast<size_t>(layout.num_microbatches), batch);
}

int64_t bytes_of(const at::Tensor& tensor) { return static_cast<int64_t>(tensor.nbytes()); }

int64_t sent(const Estimate& estimate, const std::string& axis) {
  for (const AxisTraffic& traffic : estimate.traffic) {
    if (traffic.axis == axis) return traffic.num_bytes();
  }
  ADD_FAILURE() << "no axis " << axis;
  return -1;
}

// Rank 0's groups, as a step leaves them.
struct Sent {
  explicit Sent(const DeviceMesh& mesh)
      : shard(mesh.shard().counters().num_bytes_sent),
        replicate(mesh.replicate().counters().num_bytes_sent),
        tensor(mesh.tp().counters().num_bytes_sent),
        scalars(mesh.loss().counters().num_bytes_sent + mesh.model().counters().num_bytes_sent) {}
  int64_t shard, replicate, tensor, scalars;
};

// Two steps of the job; a first one does not know what to gather ahead.
void expect_as_estimated(const World& world, const JobConfig& config) {
  const Estimate estimate = estimate_job(config, world.size());
  const DeviceMesh mesh(world, estimate.layout.dims);
  const Registries registries = make_registries("");
  const auto model = make_model(model_request(config, at::kCPU), registries.attention,
                                model_placement(config, mesh));
  checkpoint_every_nth_layer(model->blocks(), recompute_every_nth_layer(config));
  ParameterStore parameters(*model, parameter_store_options(config, at::kCPU), /*seed=*/1,
                            parameter_groups(mesh));
  const ByteTokenizer tokenizer;
  TrainingStep step(*model, parameters, tokenizer, create_block_mask, training_step_options(config),
                    mesh);
  const std::vector<Batch> batches = microbatches(config, estimate.layout);
  step.run(batches, 1e-3);
  const Sent before(mesh);
  step.run(batches, 1e-3);
  const Sent after(mesh);

  EXPECT_EQ(estimate.memory_of("parameters"), bytes_of(parameters.masters()));
  EXPECT_EQ(estimate.memory_of("gradients"), bytes_of(parameters.gradients()));
  const AdamW& adamw = step.optimizer();
  EXPECT_EQ(estimate.memory_of("optimizer"),
            bytes_of(adamw.exp_avg()) + bytes_of(adamw.exp_avg_sq()) + bytes_of(adamw.num_steps()));
  EXPECT_EQ(estimate.memory_of("whole units"), parameters.transient_bytes().peak);
  EXPECT_EQ(sent(estimate, "shard"), after.shard - before.shard);
  EXPECT_EQ(sent(estimate, "replicate"), after.replicate - before.replicate);
  EXPECT_EQ(sent(estimate, "tensor"), after.tensor - before.tensor);
  EXPECT_EQ(sent(estimate, "scalars"), after.scalars - before.scalars);
}

struct Case {
  const char* name;
  int64_t num_ranks;
  std::function<void(JobConfig&)> change;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.name; }

class EstimateOfRun : public ::testing::TestWithParam<Case> {};

TEST_P(EstimateOfRun, IsWhatItAllocatesAndSends) {
  JobConfig config = small_job();
  GetParam().change(config);
  run_ranks(GetParam().num_ranks, [&](const World& world) {
    SCOPED_TRACE("rank " + std::to_string(world.rank()));
    expect_as_estimated(world, config);
  });
}

const Case kCases[] = {
    {"one_rank", 1, [](JobConfig&) {}},
    {"fsdp_accumulated_bf16", 2,
     [](JobConfig& c) {
       c.training.mixed_precision_param = "bfloat16";
       c.training.global_batch_size = 4;
     }},
    {"fsdp_reshard_always", 3,
     [](JobConfig& c) { c.parallelism.fsdp_reshard_after_forward = "always"; }},
    {"fsdp_reshard_never", 2,
     [](JobConfig& c) {
       c.parallelism.fsdp_reshard_after_forward = "never";
       c.training.global_batch_size = 4;
     }},
    {"hsdp", 4, [](JobConfig& c) { c.parallelism.data_parallel_replicate_degree = 2; }},
    {"ddp", 3, [](JobConfig& c) { c.parallelism.data_parallel_replicate_degree = 3; }},
    {"tp_sp_recomputed", 2,
     [](JobConfig& c) {
       c.parallelism.tensor_parallel_degree = 2;
       c.activation_checkpoint.mode = "full";
     }},
    {"tp_without_sp", 2,
     [](JobConfig& c) {
       c.parallelism.tensor_parallel_degree = 2;
       c.parallelism.enable_sequence_parallel = false;
       c.activation_checkpoint.mode = "selective";
     }},
    {"fsdp_tp", 4,
     [](JobConfig& c) {
       c.parallelism.tensor_parallel_degree = 2;
       c.training.seq_len = 600;  // two chunks of the loss, the second one short
     }},
};

INSTANTIATE_TEST_SUITE_P(Layouts, EstimateOfRun, ::testing::ValuesIn(kCases),
                         [](const auto& info) { return std::string(info.param.name); });

// ------------------------------------------------------------------------------- large and refused

JobConfig large_job() {
  JobConfig config;
  config.model.flavor = "405B";
  config.training.local_batch_size = 1;
  config.training.seq_len = 8192;
  config.parallelism.tensor_parallel_degree = 8;
  config.activation_checkpoint.mode = "full";
  return config;
}

TEST(Estimate, Of405BOn512RanksTakesLessThanASecond) {
  const std::clock_t start = std::clock();
  const Estimate estimate = estimate_job(large_job(), 512);
  EXPECT_LT(static_cast<double>(std::clock() - start) / CLOCKS_PER_SEC, 1.0);
  EXPECT_EQ(estimate.num_parameters, 405853388800);
  const double share = 4.0 * 405853388800 / 512;  // of one rank, in bytes
  EXPECT_NEAR(static_cast<double>(estimate.memory_of("parameters")), share, 1e-3 * share);
  EXPECT_EQ(estimate.memory_of("compute copies") * 2, estimate.memory_of("parameters"));
  // Input of each layer: 126 x 8192 / 8 tokens x 16384 x 2 bytes.
  EXPECT_GT(estimate.memory_of("activations"), int64_t{126} * 1024 * 16384 * 2);
  EXPECT_LT(estimate.memory_of("activations"), int64_t{126} * 1024 * 16384 * 2 * 11 / 10);
}

TEST(Estimate, RecomputingTradesMemory) {
  JobConfig config = large_job();
  const Estimate full = estimate_job(config, 512);
  config.activation_checkpoint.mode = "none";
  const Estimate none = estimate_job(config, 512);
  EXPECT_GT(none.memory_of("activations"), 10 * full.memory_of("activations"));
  EXPECT_LT(none.memory_of("layer at work"), full.memory_of("layer at work"));
  EXPECT_LT(sent(none, "tensor"), sent(full, "tensor"));
  EXPECT_THROW(full.memory_of("nothing"), c10::Error);
}

TEST(Estimate, RefusesWhatItCannotTell) {
  JobConfig config = large_job();
  EXPECT_ERROR(estimate_job(config, 12), "12", "tp 8");
  config.parallelism.context_parallel_degree = 2;
  EXPECT_ERROR(estimate_job(config, 512), "context parallelism", "cp 2");
}

TEST(EstimateCommand, PrintsATableOrJson) {
  const testing::JobFixture job;
  const std::vector<std::string> command = {TESSERA_BINARY, "estimate", "--config",
                                            job.config(),   "--world",  "2"};
  const testing::ProcessResult table = testing::run_process(command);
  EXPECT_EQ(table.status, 0) << table.output;
  for (const char* part : {"llama3 debugmodel, 6.2 M parameters, on 2 ranks", "memory of a rank",
                           "parameters", "shard (2) all-gather", "total"}) {
    EXPECT_NE(table.output.find(part), std::string::npos) << part << "\n" << table.output;
  }
  std::vector<std::string> with_json = command;
  with_json.insert(with_json.end(), {"--json", "--training.seq_len", "96"});
  const testing::ProcessResult result = testing::run_process(with_json);
  EXPECT_EQ(result.status, 0) << result.output;
  const nlohmann::json json = nlohmann::json::parse(result.output);
  EXPECT_EQ(json["num_ranks"], 2);
  EXPECT_EQ(json["layout"]["dp_shard"], 2);
  EXPECT_EQ(json["memory"]["parameters"], json["memory"]["gradients"]);
  EXPECT_GT(json["memory"]["total"], json["memory"]["parameters"]);
  EXPECT_GT(json["traffic"]["shard"]["all-gather"], 0);
  EXPECT_EQ(json["traffic"]["tensor"]["total"], 0);

  std::vector<std::string> refused = command;
  refused.back() = "0";
  const testing::ProcessResult none = testing::run_process(refused);
  EXPECT_EQ(none.status, 2);
  EXPECT_NE(none.output.find("--world: got 0"), std::string::npos) << none.output;
}

}  // namespace
}  // namespace tessera
