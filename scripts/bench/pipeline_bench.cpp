// Idle time of pipeline schedules on two ranks, simulated and measured; see scripts/bench/pipeline.
//
//   bench_pipeline MICROBATCHES SEQ_LEN STEPS
//
// Prints one JSON object per schedule on stdout.
//
// Ranks are threads with one compute thread each. Costs of the simulation are the measured means of
// each kind of action, times each stage's share.
#include <nlohmann/json.hpp>

#include <iostream>
#include <mutex>

#include "attention/registry/registry.h"
#include "data/loader/packing.h"
#include "data/tokenizers/byte_tokenizer.h"
#include "models/llama3/llama3.h"
#include "parallel/pipeline/schedules/simulate_schedule.h"
#include "tests/support/run_ranks.h"
#include "trainer/step/pipeline_passes.h"
#include "trainer/step/rank_model.h"

namespace {

using namespace tessera;
using pipeline::ActionKind;
using pipeline::ActionTime;

constexpr int64_t kRanks = 2;

struct Arguments {
  int64_t num_microbatches = 8;
  int64_t seq_len = 256;
  int64_t num_steps = 5;
};

using RankTimes = std::vector<ActionTime>;

// The times of both ranks in the step with the shortest makespan.
struct Measured {
  std::vector<RankTimes> ranks = std::vector<RankTimes>(kRanks);
  double makespan_s = 0;
};

double makespan_of(const std::vector<RankTimes>& ranks) {
  double end = 0;
  for (const RankTimes& times : ranks) end = std::max(end, times.back().end_s);
  return end;
}

// Rows of documents of 1 to 64 tokens.
Batch random_batch(int64_t num_rows, int64_t seq_len, int64_t vocab_size) {
  std::vector<std::vector<int64_t>> documents;
  int64_t state = 7;
  for (int64_t total = 0; total < (num_rows + 1) * (seq_len + 1);
       total += static_cast<int64_t>(documents.back().size())) {
    std::vector<int64_t> document(static_cast<size_t>(1 + state % 64));
    for (int64_t& token : document) token = (state = (state * 29 + 11) % 1009) % vocab_size;
    documents.push_back(std::move(document));
  }
  return pack_documents(documents, seq_len).rows(0, num_rows);
}

Measured measure(const pipeline::PipelinePlan& plan, const Llama3Config& config,
                 const Arguments& arguments) {
  std::vector<std::vector<RankTimes>> steps(static_cast<size_t>(arguments.num_steps + 1),
                                            std::vector<RankTimes>(kRanks));
  testing::run_ranks(kRanks, [&](const World& world) {
    const AttentionOp attention = AttentionRegistry::with_builtins().make("flex");
    const MakeModel make = [&](const ModelPlacement& placement) {
      return std::make_unique<Llama3>(config, attention, placement);
    };
    const ByteTokenizer tokenizer;
    RankModel model({.mesh = DeviceMesh(world, {.pp = kRanks}), .pipeline = plan, .seed = 1}, make);
    model.materialise(tokenizer, create_block_mask);
    auto& passes = dynamic_cast<PipelinePasses&>(model.passes());
    const Batch batch =
        random_batch(arguments.num_microbatches, arguments.seq_len, config.vocab_size);
    for (std::vector<RankTimes>& step : steps) {  // the first one warms up
      RankTimes& times = step[static_cast<size_t>(world.rank())];
      passes.runtime().record_times(&times);
      model.parameters().zero_gradients();
      world.all().barrier();
      passes.run({batch}, 1e-3);
    }
  });
  Measured best;
  for (size_t i = 1; i < steps.size(); ++i) {
    const double makespan = makespan_of(steps[i]);
    if (i == 1 || makespan < best.makespan_s) best = {steps[i], makespan};
  }
  return best;
}

double idle_share(const Measured& measured) {
  double busy = 0;
  for (const RankTimes& times : measured.ranks) {
    for (const ActionTime& time : times) busy += time.end_s - time.start_s;
  }
  return 1 - busy / (kRanks * measured.makespan_s);
}

pipeline::ActionCosts costs_of(const Measured& measured, int64_t num_stages) {
  std::map<ActionKind, double> sums, counts;
  std::vector<double> stage_sums(static_cast<size_t>(num_stages));
  double all = 0;
  for (const RankTimes& times : measured.ranks) {
    for (const ActionTime& time : times) {
      const double seconds = time.end_s - time.start_s;
      sums[time.action.kind] += seconds;
      counts[time.action.kind] += 1;
      stage_sums[static_cast<size_t>(time.action.stage)] += seconds;
      all += seconds;
    }
  }
  const auto mean = [&](ActionKind kind) {
    return counts[kind] == 0 ? 0.0 : sums[kind] / counts[kind];
  };
  pipeline::ActionCosts costs{.forward = mean(ActionKind::kForward),
                              .backward = mean(ActionKind::kBackward),
                              .backward_input = mean(ActionKind::kBackwardInput),
                              .backward_weight = mean(ActionKind::kBackwardWeight)};
  for (const double sum : stage_sums) {
    costs.stage_factors.push_back(sum * static_cast<double>(num_stages) / all);
  }
  return costs;
}

void report(const char* schedule, const Llama3Config& config, const Arguments& arguments) {
  const pipeline::PipelinePlan plan =
      pipeline::plan_pipeline({.num_ranks = kRanks,
                               .num_layers = config.n_layers,
                               .num_microbatches = arguments.num_microbatches,
                               .schedule = schedule});
  const Measured measured = measure(plan, config, arguments);
  const auto num_stages = static_cast<int64_t>(plan.stages.size());
  const pipeline::ActionCosts costs = costs_of(measured, num_stages);
  const pipeline::Simulation simulated = pipeline::simulate_schedule(plan.schedule, costs);
  std::cout << nlohmann::json{{"schedule", schedule},
                              {"ranks", kRanks},
                              {"stages", num_stages},
                              {"microbatches", arguments.num_microbatches},
                              {"tokens", arguments.num_microbatches * arguments.seq_len},
                              {"idle_share_of_equal_stages",
                               pipeline::simulate_schedule(plan.schedule).idle_share},
                              {"idle_share_simulated", simulated.idle_share},
                              {"idle_share_measured", idle_share(measured)},
                              {"makespan_simulated_ms", simulated.makespan * 1e3},
                              {"makespan_measured_ms", measured.makespan_s * 1e3},
                              {"forward_ms", costs.forward * 1e3},
                              {"backward_ms", costs.backward * 1e3},
                              {"backward_input_ms", costs.backward_input * 1e3},
                              {"backward_weight_ms", costs.backward_weight * 1e3},
                              {"stage_factors", costs.stage_factors}}
            << std::endl;
}

}  // namespace

int main(int argc, char** argv) {
  Arguments arguments;
  int64_t* const fields[] = {&arguments.num_microbatches, &arguments.seq_len, &arguments.num_steps};
  for (int i = 1; i < argc && i <= 3; ++i) *fields[i - 1] = std::stoll(argv[i]);
  const Llama3Config config = llama3_flavor("debugmodel");
  for (const char* schedule : {"GPipe", "1F1B", "Interleaved1F1B", "LoopedBFS",
                               "InterleavedZeroBubble", "ZBVZeroBubble", "DualPipeV"}) {
    report(schedule, config, arguments);
  }
}
