// What `tessera estimate` says equals what a run allocates and sends, on every rank.

#include <gtest/gtest.h>

#include <functional>
#include <map>

#include "data/loader/packing.h"
#include "tests/support/rank_model.h"
#include "tests/support/run_ranks.h"
#include "tests/support/small_models.h"
#include "trainer/estimate/estimate_parts.h"

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
  const int64_t rows = config.training.local_batch_size;
  std::vector<std::vector<int64_t>> documents;
  for (int64_t left = 2 * rows * (config.training.seq_len + 1); left > 0;) {
    std::vector<int64_t>& document = documents.emplace_back();
    const auto length = static_cast<int64_t>(config.training.seq_len / 3 + documents.size());
    for (int64_t i = 0; i < length; ++i) document.push_back((i * i + left) % 250);
    left -= length;
  }
  const Batch batch = pack_documents(documents, config.training.seq_len).rows(0, rows);
  return std::vector<Batch>(static_cast<size_t>(layout.num_microbatches), batch);
}

// The documents of a batch, as lengths.
DocumentRows documents_of(const Batch& batch) {
  DocumentRows documents;
  for (int64_t row = 0; row < batch.batch_size(); ++row) {
    std::vector<int64_t>& lengths = documents.rows.emplace_back();
    const at::Tensor ids_T = batch.document_ids_BT.select(0, row).contiguous();
    const int64_t* ids = ids_T.const_data_ptr<int64_t>();
    for (int64_t t = 0; t < batch.seq_len(); ++t) {
      if (t == 0 || ids[t] != ids[t - 1]) lengths.push_back(0);
      ++lengths.back();
    }
  }
  return documents;
}

int64_t bytes_of(const at::Tensor& tensor) { return static_cast<int64_t>(tensor.nbytes()); }

const AxisTraffic& traffic_on(const Estimate& estimate, const std::string& axis) {
  for (const AxisTraffic& traffic : estimate.traffic) {
    if (traffic.axis == axis) return traffic;
  }
  TORCH_CHECK(false, "no axis ", axis);
}

// One rank of a job, built as TrainJob builds it.
class RankOfJob {
 public:
  RankOfJob(const World& world, const JobConfig& config, const MakeModel& make)
      : layout_(plan_layout(config, world.size())),
        mesh_(world, layout_.dims),
        rank_(rank_model_options(config, layout_, mesh_, at::kCPU, {}), make,
              training_step_options(config)) {}

  TrainingStep& step() { return *rank_.step; }
  const ParameterStore& parameters() const { return rank_.parameters(); }
  const JobLayout& layout() const { return layout_; }

  // Bytes by axis, since the start.
  std::map<std::string, int64_t> bytes_sent() const {
    const auto of = [](const ProcessGroup& group) { return group.counters().num_bytes_sent; };
    std::map<std::string, int64_t> bytes = {
        {"shard", of(mesh_.shard())}, {"replicate", of(mesh_.replicate())},
        {"tensor", of(mesh_.tp())},   {"pipeline", of(mesh_.pp())},
        {"context", of(mesh_.cp())},  {"scalars", of(mesh_.loss()) + of(mesh_.model())}};
    for (const ProcessGroup& group : rank_.model.tied_groups()) bytes["pipeline"] += of(group);
    return bytes;
  }

 private:
  JobLayout layout_;
  DeviceMesh mesh_;
  testing::TrainedRank rank_;
};

MakeModel narrow_maker(bool tied) {
  return testing::llama_maker(testing::narrow_debugmodel(tied), "flex");
}

// Runs two steps of the job and compares the second: the first does not know what to gather ahead.
void expect_as_estimated(const World& world, const JobConfig& config, bool tied) {
  RankOfJob rank(world, config, narrow_maker(tied));
  const std::vector<Batch> batches = microbatches(config, rank.layout());
  const PlannedJob planned(config, world.size(), world.rank(), narrow_maker(tied));
  const Estimate estimate = estimate_planned(planned, documents_of(batches.front())).estimate;
  rank.step().run(batches, 1e-3);
  const std::map<std::string, int64_t> before = rank.bytes_sent();
  rank.step().run(batches, 1e-3);

  const ParameterStore& parameters = rank.parameters();
  EXPECT_EQ(estimate.memory_of("parameters"), bytes_of(parameters.masters()));
  EXPECT_EQ(estimate.memory_of("gradients"), bytes_of(parameters.gradients()));
  const AdamW& adamw = rank.step().optimizer();
  EXPECT_EQ(estimate.memory_of("optimizer"),
            bytes_of(adamw.exp_avg()) + bytes_of(adamw.exp_avg_sq()) + bytes_of(adamw.num_steps()));
  EXPECT_EQ(estimate.memory_of("whole units"), parameters.transient_bytes().peak);
  for (const auto& [axis, bytes] : rank.bytes_sent()) {
    const AxisTraffic& traffic = traffic_on(estimate, axis);
    EXPECT_EQ(traffic.num_bytes(), bytes - before.at(axis)) << axis;
    EXPECT_TRUE(traffic.num_ranks == 1 || traffic.num_bytes() > 0) << axis;
  }
}

struct EstimateCase {
  const char* name;
  int64_t num_ranks;
  std::function<void(JobConfig&)> change;
  bool tied = false;
};

void PrintTo(const EstimateCase& c, std::ostream* out) { *out << c.name; }

class EstimateOfRun : public ::testing::TestWithParam<EstimateCase> {};

TEST_P(EstimateOfRun, IsWhatItAllocatesAndSends) {
  JobConfig config = small_job();
  GetParam().change(config);
  run_ranks(GetParam().num_ranks, [&](const World& world) {
    SCOPED_TRACE("rank " + std::to_string(world.rank()));
    expect_as_estimated(world, config, GetParam().tied);
  });
}

void pipeline(JobConfig& config, const std::string& schedule, int64_t num_microbatches) {
  config.parallelism.pipeline_parallel_degree = 2;
  config.parallelism.pipeline_parallel_schedule = schedule;
  config.training.local_batch_size = num_microbatches;
}

void context(JobConfig& config, const std::string& method, const std::string& balancer) {
  config.parallelism.context_parallel_degree = 2;
  config.parallelism.context_parallel_rotate_method = method;
  config.parallelism.context_parallel_load_balancer = balancer;
  config.training.local_batch_size = 2;
  config.training.seq_len = 96;
}

const EstimateCase kEstimateCases[] = {
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
    {"pipeline_1f1b", 2, [](JobConfig& c) { pipeline(c, "1F1B", 4); }},
    {"pipeline_1f1b_tied", 2, [](JobConfig& c) { pipeline(c, "1F1B", 4); }, true},
    {"pipeline_zero_bubble", 2,
     [](JobConfig& c) {
       pipeline(c, "InterleavedZeroBubble", 4);
       c.training.global_batch_size = 8;
     }},
    {"pipeline_zero_bubble_v_tied", 2, [](JobConfig& c) { pipeline(c, "ZBVZeroBubble", 4); }, true},
    {"pipeline_fsdp_tied_bf16", 4,
     [](JobConfig& c) {
       pipeline(c, "1F1B", 2);
       c.training.mixed_precision_param = "bfloat16";
       c.training.global_batch_size = 8;
     },
     true},
    {"pipeline_fsdp_reshard_always", 4,
     [](JobConfig& c) {
       pipeline(c, "ZBVZeroBubble", 3);
       c.parallelism.fsdp_reshard_after_forward = "always";
     },
     true},
    {"pipeline_tp_recomputed", 4,
     [](JobConfig& c) {
       pipeline(c, "InterleavedZeroBubble", 2);
       c.parallelism.tensor_parallel_degree = 2;
       c.activation_checkpoint.mode = "selective";
     }},
    {"pipeline_context", 4,
     [](JobConfig& c) {
       context(c, "needed_kv", "min_heap");
       pipeline(c, "1F1B", 2);
     },
     true},
    {"context_needed_kv", 2, [](JobConfig& c) { context(c, "needed_kv", "min_heap"); }},
    {"context_all_gather_bf16", 2,
     [](JobConfig& c) {
       context(c, "allgather", "headtail");
       c.training.mixed_precision_param = "bfloat16";
       c.training.global_batch_size = 4;
     }},
    {"context_ring_recomputed", 4,
     [](JobConfig& c) {
       context(c, "alltoall", "ptrr");
       c.parallelism.context_parallel_degree = 4;
       c.activation_checkpoint.mode = "selective";
     }},
    {"context_heads_tp", 4,
     [](JobConfig& c) {
       context(c, "ulysses", "min_heap");
       c.parallelism.tensor_parallel_degree = 2;
     }},
    {"context_needed_kv_fsdp", 4,
     [](JobConfig& c) {
       context(c, "needed_kv", "ptrr");
       c.activation_checkpoint.mode = "full";
     }},
};

INSTANTIATE_TEST_SUITE_P(Layouts, EstimateOfRun, ::testing::ValuesIn(kEstimateCases),
                         [](const auto& info) { return std::string(info.param.name); });

}  // namespace
}  // namespace tessera
