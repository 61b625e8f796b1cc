// What `tessera estimate` says of jobs that are too large to run here, and its command. That it
// says the truth is tested in estimate_run_test.cpp.
#include "trainer/estimate/estimate.h"

#include <gtest/gtest.h>

#include <ctime>
#include <nlohmann/json.hpp>

#include "configs/load_config.h"
#include "parallel/comm/process_group.h"
#include "tests/support/errors.h"
#include "tests/support/process.h"
#include "tests/trainer/job/job_fixture.h"

namespace tessera {
namespace {

int64_t sent(const Estimate& estimate, const std::string& axis) {
  for (const AxisTraffic& traffic : estimate.traffic) {
    if (traffic.axis == axis) return traffic.num_bytes();
  }
  ADD_FAILURE() << "no axis " << axis;
  return -1;
}

JobConfig large_job() {
  JobConfig config;
  config.model.flavor = "405B";
  config.training.local_batch_size = 1;
  config.training.seq_len = 8192;
  config.parallelism.tensor_parallel_degree = 8;
  config.activation_checkpoint.mode = "full";
  return config;
}

JobConfig long_rows_job() {
  JobConfig config;
  config.model.flavor = "8B";
  config.training.local_batch_size = 1;
  config.training.seq_len = 32768;
  config.parallelism.context_parallel_degree = 8;
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
  config.model.tokenizer = "bpe";
  EXPECT_ERROR(estimate_job(config, 512), "model.tokenizer", "\"bpe\"", "auto, bytes");
  JobConfig shared = long_rows_job();
  shared.training.seq_len = 24;
  EXPECT_ERROR(estimate_job(shared, 8), "context_parallel_degree = 8", "24 tokens",
               "multiple of 16");
  shared.training.seq_len = 32768;
  shared.parallelism.context_parallel_rotate_method = "ulysses";
  shared.parallelism.context_parallel_degree = 64;  // 32 query heads
  EXPECT_ERROR(estimate_job(shared, 64), "context_parallel_degree = 64", "query heads: got 32");
}

// ------------------------------------------------------------------------- pipelines, shared rows

TEST(Estimate, ShowsTheFullestRankOfAPipeline) {
  JobConfig config = large_job();
  config.parallelism.pipeline_parallel_degree = 4;
  config.training.local_batch_size = 16;
  const Estimate estimate = estimate_job(config, 512);
  ASSERT_TRUE(estimate.pipeline);
  const PipelineEstimate& pipeline = *estimate.pipeline;
  EXPECT_EQ(pipeline.schedule, "1F1B");
  EXPECT_EQ(pipeline.num_microbatches, 16);
  EXPECT_EQ(estimate.rows, 1);
  EXPECT_NEAR(pipeline.idle_share, 3.0 / (16 + 3), 1e-12);
  EXPECT_EQ(pipeline.peak_live, 4 - pipeline.rank);
  EXPECT_EQ(estimate.rank, pipeline.rank * 128);
  ASSERT_EQ(pipeline.memory.size(), 4);
  for (const int64_t total : pipeline.memory) EXPECT_LE(total, estimate.total_memory());
  EXPECT_EQ(pipeline.memory[static_cast<size_t>(pipeline.rank)], estimate.total_memory());
  const Estimate last = estimate_rank(config, 512, 3 * 128);
  EXPECT_GT(last.memory_of("loss"), 0);
  EXPECT_EQ(estimate_rank(config, 512, 0).memory_of("loss"), 0);
  EXPECT_EQ(pipeline.memory[3], last.total_memory());
}

TEST(Estimate, SchedulesTradeMemoryForIdleTime) {
  JobConfig config = large_job();
  config.parallelism.pipeline_parallel_degree = 4;
  config.training.local_batch_size = 16;
  const auto first_rank = [&](const std::string& schedule) {
    config.parallelism.pipeline_parallel_schedule = schedule;
    return estimate_rank(config, 512, 0);
  };
  const Estimate one = first_rank("1F1B"), all = first_rank("GPipe"),
                 split = first_rank("InterleavedZeroBubble");
  // Four and sixteen live microbatches.
  EXPECT_EQ(4 * one.memory_of("activations"), all.memory_of("activations"));
  EXPECT_EQ(one.pipeline->idle_share, all.pipeline->idle_share);
  EXPECT_LT(split.pipeline->idle_share, one.pipeline->idle_share);
  EXPECT_GT(split.memory_of("activations"), one.memory_of("activations"));
}

const BalancerCosts& costs_of(const Estimate& estimate, const std::string& balancer) {
  for (const BalancerCosts& costs : estimate.context->balancers) {
    if (costs.balancer == balancer) return costs;
  }
  TORCH_CHECK(false, "no balancer ", balancer);
}

int64_t most_sent(const BalancerCosts& costs, const std::string& method) {
  for (const MethodTraffic& traffic : costs.methods) {
    if (traffic.method == method) return traffic.most;
  }
  TORCH_CHECK(false, "no method ", method);
}

// One causal document over R ranks in order: rank r has 2 r + 1 of R^2 parts of the pairs, and
// needs all keys before it.
TEST(Estimate, OfRowsOfOneDocumentIsArithmetic) {
  const Estimate estimate = estimate_job(long_rows_job(), 8);
  ASSERT_TRUE(estimate.context);
  const BalancerCosts& in_order = costs_of(estimate, "contiguous");
  EXPECT_NEAR(in_order.mean_imbalance, 15.0 / 8, 1e-3);
  EXPECT_NEAR(costs_of(estimate, "head_tail").mean_imbalance, 1.0, 1e-9);
  EXPECT_LE(costs_of(estimate, "min_heap").worst_imbalance, 1.005);
  // Keys and values of a rank's 4096 tokens, 8 heads of 128, in bfloat16; 32 layers, 16 of which
  // are recomputed.
  const int64_t shard = int64_t{4096} * 8 * 2 * 128 * 2;
  EXPECT_EQ(most_sent(in_order, "all_gather"), 7 * shard * (32 + 16 + 32));
  EXPECT_EQ(most_sent(in_order, "needed_kv"), 7 * shard * (32 + 16));  // rank 0: to all others
  EXPECT_EQ(most_sent(in_order, "ring"), most_sent(in_order, "needed_kv"));
  // Queries and outputs of 4 heads, keys and values of 1, of all other tokens.
  EXPECT_EQ(most_sent(in_order, "all_to_all"),
            int64_t{7 * 4096} * (4 + 1) * 2 * 128 * 2 * (32 + 16 + 32));
  EXPECT_EQ(sent(estimate, "context"),
            most_sent(costs_of(estimate, "head_tail"), "all_gather") + all_reduce_sent(8, 8));
}

TEST(Estimate, DocumentsDecideWhatTravels) {
  JobConfig config = long_rows_job();
  config.parallelism.context_parallel_rotate_method = "needed_kv";
  config.parallelism.context_parallel_load_balancer = "min_heap";
  config.training.global_batch_size = 2;
  // A row of documents of 512 tokens, four to a rank's share, and one of a long one.
  DocumentRows documents{.source = "made", .rows = {std::vector<int64_t>(64, 512), {32768}}};
  const Estimate both = estimate_job(config, 8, documents);
  documents.rows = {documents.rows.front()};
  const Estimate small = estimate_job(config, 8, documents);
  EXPECT_ERROR(estimate_job(config, 8, {.rows = {{500}}}), "a row of 500", "seq_len = 32768");
  EXPECT_LT(sent(small, "context"), sent(both, "context"));
  const BalancerCosts& in_order = costs_of(small, "contiguous");
  EXPECT_EQ(in_order.mean_imbalance, 1.0);
  EXPECT_EQ(most_sent(in_order, "needed_kv"), 0);
  EXPECT_FALSE(in_order.is_configured);
  EXPECT_GT(costs_of(both, "contiguous").worst_imbalance, 1.8);
  EXPECT_NEAR(costs_of(both, "contiguous").mean_imbalance, (1.0 + 15.0 / 8) / 2, 1e-3);
  EXPECT_EQ(costs_of(both, "document_head_tail").refusal, "");
  EXPECT_NEAR(costs_of(both, "document_head_tail").worst_imbalance, 1.0, 1e-9);
  const Estimate odd = estimate_job(config, 8, {.rows = {{32760, 8}}});
  EXPECT_EQ(costs_of(odd, "document_head_tail").refusal,
            "document_head_tail: document 0 of 2: got 32760 tokens, expected a multiple of 16 "
            "(2 x 8 ranks)");
  const BalancerCosts& configured = costs_of(both, "min_heap");
  EXPECT_TRUE(configured.is_configured);
  EXPECT_EQ(sent(both, "context"), most_sent(configured, "needed_kv") + all_reduce_sent(8, 8));
  for (const MethodTraffic& traffic : configured.methods) {
    EXPECT_EQ(traffic.is_configured, traffic.method == "needed_kv");
    EXPECT_LE(traffic.mean, traffic.most);
  }
}

// ------------------------------------------------------------------------------------- the command

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

TEST(EstimateCommand, ShowsPipelinesAndSharedRows) {
  const testing::JobFixture job;
  const auto run = [&](const std::vector<std::string>& more) {
    std::vector<std::string> command = {TESSERA_BINARY, "estimate", "--config",
                                        job.config(),   "--world",  "2"};
    command.insert(command.end(), more.begin(), more.end());
    return testing::run_process(command);
  };
  const std::vector<std::string> pp = {"--parallelism.pipeline_parallel_degree", "2"};
  const testing::ProcessResult pipeline = run(pp);
  EXPECT_EQ(pipeline.status, 0) << pipeline.output;
  for (const char* part : {"pipeline: 1F1B over 2 ranks, 2 microbatches; idle 33.3 %",
                           "memory of rank", "pipeline (2) ", "the fullest pipeline rank"}) {
    EXPECT_NE(pipeline.output.find(part), std::string::npos) << part << "\n" << pipeline.output;
  }
  const std::string rows = job.folder().write("rows.json", "[[40, 8], [48]]");
  std::vector<std::string> cp = {"--parallelism.context_parallel_degree", "2", "--documents", rows};
  const testing::ProcessResult shared = run(cp);
  EXPECT_EQ(shared.status, 0) << shared.output;
  for (const char* part : {"2 ranks share each row; 2 rows of documents of", "* all_gather",
                           "* head_tail", "min_heap", "context (2) keys and values"}) {
    EXPECT_NE(shared.output.find(part), std::string::npos) << part << "\n" << shared.output;
  }
  cp.emplace_back("--json");
  const nlohmann::json json = nlohmann::json::parse(run(cp).output);
  EXPECT_EQ(json["context"]["num_rows"], 2);
  EXPECT_TRUE(json["context"]["balancers"]["head_tail"]["configured"]);
  EXPECT_GE(json["context"]["balancers"]["min_heap"]["imbalance"]["worst"], 1.0);
  EXPECT_GT(json["context"]["balancers"]["contiguous"]["methods"]["ring"]["sent"]["most"], 0);

  const testing::ProcessResult none = run({"--documents", rows});
  EXPECT_EQ(none.status, 2);
  EXPECT_NE(none.output.find("--documents: "), std::string::npos) << none.output;
  cp[3] = job.folder().write("bad.json", "[[40, -8]]");
  const testing::ProcessResult bad = run(cp);
  EXPECT_EQ(bad.status, 2);
  EXPECT_NE(bad.output.find("bad.json: [0][1]: got -8"), std::string::npos) << bad.output;
}

}  // namespace
}  // namespace tessera
