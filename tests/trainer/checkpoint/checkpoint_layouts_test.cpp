// Checkpoints of several ranks (threads): any saved layout loads into any other.
#include <ATen/TensorOperators.h>
#include <ATen/ops/arange.h>
#include <ATen/ops/zeros.h>
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>

#include "data/files/rectangle.h"
#include "data/files/safetensors.h"
#include "tests/support/errors.h"
#include "tests/support/files.h"
#include "tests/support/run_ranks.h"
#include "tests/support/same_bits.h"
#include "tests/support/temp_dir.h"
#include "tests/trainer/checkpoint/rank_run.h"
#include "trainer/checkpoint/checkpoint.h"

namespace tessera {
namespace {

namespace fs = std::filesystem;
using testing::message_of;
using testing::RankRun;
using testing::run_ranks;
using testing::RunLayout;
using testing::same_bits;
using testing::TempDir;

const RunLayout kLayouts[] = {
    {"one rank", 1},
    {"fsdp 4", 4},
    {"tp 2", 2, {.tp = 2}},
    {"tp 2 x fsdp 2", 4, {.tp = 2}},
    {"ddp 2 x fsdp 2", 4, {.dp_replicate = 2}},
};

Llama3Config model_config() { return testing::checkpoint_llama(2); }

TrainState state_of(int64_t step) { return {.step = step, .num_tokens = 10 * step, .loader = {}}; }

class CheckpointLayouts : public ::testing::Test {
 protected:
  std::string folder(const std::string& name = "a") const { return (dir_.path() / name).string(); }

  // The whole tensors of a checkpoint, as one rank reads them.
  static std::map<std::string, at::Tensor> wholes(const std::string& folder, int64_t step) {
    RankRun run(World(), kLayouts[0], model_config(), /*seed=*/99);
    run.load(folder, step);
    std::map<std::string, at::Tensor> wholes;
    const CheckpointTensors tensors = run.tensors();
    for (const NamedShard& part : tensors.model) wholes[part.name] = part.tensor.clone();
    for (const NamedShard& part : tensors.optimizer) wholes[part.name] = part.tensor.clone();
    return wholes;
  }

  TempDir dir_;
};

void expect_same(const std::map<std::string, at::Tensor>& a,
                 const std::map<std::string, at::Tensor>& b, const std::string& what) {
  ASSERT_EQ(a.size(), b.size()) << what;
  for (const auto& [name, tensor] : a) EXPECT_TRUE(same_bits(tensor, b.at(name))) << what << name;
}

// A checkpoint that one layout saves, another loads and saves again has the same bits when one rank
// reads it, for all pairs of layouts.
TEST_F(CheckpointLayouts, AnyLoadsIntoAnyOther) {
  for (const RunLayout& from : kLayouts) {
    const std::string saved = folder(std::string("from ") + from.name);
    run_ranks(from.num_ranks, [&](const World& world) {
      RankRun run(world, from, model_config(), /*seed=*/3);
      run.train(0, 2);
      run.save(saved, 2);
    });
    const auto expected = wholes(saved, 2);
    EXPECT_EQ(expected.size(), 21u * 3 + 1);
    EXPECT_EQ(expected.at("step").item<float>(), 2);
    EXPECT_GT(expected.at("exp_avg/layers.1.feed_forward.w2.weight").abs().min().item<double>(), 0);
    for (const RunLayout& to : kLayouts) {
      const std::string again = folder(std::string("to ") + to.name);
      run_ranks(to.num_ranks, [&](const World& world) {
        RankRun run(world, to, model_config(), /*seed=*/4);
        run.load(saved, 2);
        for (const NamedShard& part : run.tensors().model) {  // also what nobody counts here
          const at::Tensor& whole = expected.at(part.name);
          const Rectangle all = Rectangle::whole(whole.sizes().vec());
          EXPECT_TRUE(same_bits(part.tensor, view_of(whole, all, part.where).contiguous()))
              << part.name;
        }
        run.save(again, 2);
      });
      expect_same(wholes(again, 2), expected, std::string(from.name) + " -> " + to.name + ": ");
    }
  }
}

TEST_F(CheckpointLayouts, AResumedRunContinuesTheCurve) {
  std::map<std::string, std::vector<double>> whole_curves;
  for (const RunLayout& layout : kLayouts) {
    run_ranks(layout.num_ranks, [&](const World& world) {
      RankRun run(world, layout, model_config(), /*seed=*/3);
      std::vector<double> losses = run.train(0, 3);
      run.save(folder(layout.name), 3);
      for (const double loss : run.train(3, 6)) losses.push_back(loss);
      if (world.rank() == 0) whole_curves[layout.name] = losses;
    });
  }
  for (const RunLayout& from : kLayouts) {
    for (const RunLayout& to : kLayouts) {
      run_ranks(to.num_ranks, [&](const World& world) {
        RankRun run(world, to, model_config(), /*seed=*/4);
        run.load(folder(from.name), 3);
        const std::vector<double> losses = run.train(3, 6), &expected = whole_curves.at(from.name);
        for (size_t i = 0; i < losses.size(); ++i) {
          const double loss = expected[3 + i];
          if (&from == &to) {
            EXPECT_EQ(losses[i], loss) << from.name;
          }
          EXPECT_NEAR(losses[i], loss, 1e-9 * loss) << from.name << " -> " << to.name;
        }
      });
    }
  }
}

// ------------------------------------------------------------------- hand-made parts of few ranks

// Rows [2 r, 2 r + 2) of "w" [2 ranks, 3] and all of the name that only rank r has.
CheckpointTensors rows_of_rank(const World& world, double value) {
  const int64_t rank = world.rank();
  NamedShard rows = whole_shard("w", at::arange(6, at::kFloat).view({2, 3}).add(10 * rank + value));
  rows.where.offset = {2 * rank, 0};
  rows.whole_shape = {2 * world.size(), 3};
  const std::string own_name = "stage." + std::to_string(rank);
  return {.model = {rows, whole_shard(own_name, at::zeros({2}).add(value))},
          .optimizer = {whole_shard("exp_avg/" + own_name, at::zeros({2}).add(value))}};
}

void fill(CheckpointTensors& tensors, double value) {
  for (NamedShard& part : tensors.model) part.tensor.fill_(value);
  for (NamedShard& part : tensors.optimizer) part.tensor.fill_(value);
}

bool all_equal_to(const CheckpointTensors& tensors, double value) {
  const auto equal = [value](const NamedShard& part) {
    return part.tensor.eq(value).all().item<bool>();
  };
  return std::all_of(tensors.model.begin(), tensors.model.end(), equal) &&
         std::all_of(tensors.optimizer.begin(), tensors.optimizer.end(), equal);
}

TEST_F(CheckpointLayouts, FilesSayWhereTheirPartsStandAsPyTorchDoes) {
  run_ranks(3, [&](const World& world) {
    save_checkpoint(folder(), rows_of_rank(world, 0), state_of(1), {}, DeviceMesh(world, {}));
  });
  const SafetensorsFile file(folder() + "/step-1/model-00003-of-00003.safetensors");
  EXPECT_EQ(file.sizes("w"), (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(file.metadata().at("format"), "pt");
  EXPECT_EQ(file.metadata().at("DCP_VERSION"), "1.0");
  EXPECT_EQ(
      nlohmann::json::parse(file.metadata().at("DCP_SHARDING_INFO")),
      nlohmann::json::parse(R"({"w":{"saved_offsets":[4,0]},"stage.2":{"saved_offsets":[0]}})"));
  EXPECT_TRUE(fs::exists(folder() + "/step-1/optimizer-00003-of-00003.safetensors"));
  EXPECT_EQ(checkpoint_steps(folder()), std::vector<int64_t>{1});
  fs::remove(folder() + "/step-1/optimizer-00002-of-00003.safetensors");
  EXPECT_EQ(checkpoint_steps(folder()), std::vector<int64_t>{});
}

// No rank has every name, as with pipeline stages.
TEST_F(CheckpointLayouts, TheUnionOverTheRanksIsTheModel) {
  run_ranks(3, [&](const World& world) {
    save_checkpoint(folder(), rows_of_rank(world, 0.5), state_of(1), {}, DeviceMesh(world, {}));
  });
  run_ranks(3, [&](const World& world) {
    const DeviceMesh mesh(world, {});
    CheckpointTensors expected = rows_of_rank(world, 0.5), loaded = rows_of_rank(world, 0);
    fill(loaded, 7);
    load_checkpoint(folder(), 1, loaded, mesh);
    EXPECT_TRUE(same_bits(loaded.model[0].tensor, expected.model[0].tensor));
    EXPECT_TRUE(same_bits(loaded.model[1].tensor, expected.model[1].tensor));
    EXPECT_TRUE(same_bits(loaded.optimizer[0].tensor, expected.optimizer[0].tensor));

    fill(loaded, 7);
    const auto expect_load_error = [&](std::initializer_list<std::string> parts) {
      testing::expect_error([&] { load_checkpoint(folder(), 1, loaded, mesh); }, parts, __FILE__,
                            __LINE__);
      EXPECT_TRUE(all_equal_to(loaded, 7)) << "written on rank " << world.rank();
    };
    const CheckpointTensors whole = loaded;
    if (world.rank() == 1) loaded.model.pop_back();
    expect_load_error({"step-1 (model)", "unexpected (1): stage.1"});
    loaded = whole;
    if (world.rank() == 2) loaded.optimizer[0].name = "exp_avg/other";
    expect_load_error({"(optimizer)", "missing (1): exp_avg/other", "(1): exp_avg/stage.2"});
    loaded = whole;
    if (world.rank() == 0) loaded.model[0].whole_shape = {7, 3};
    expect_load_error({"w (got Float [6, 3], expected Float [7, 3])"});
    loaded = whole;
    if (world.rank() == 2) loaded.model[0].where.offset = {5, 0};
    expect_load_error({"rank 2", "w to load into", "offset [5, 0] shape [2, 3]", "[6, 3]"});
  });
}

TEST_F(CheckpointLayouts, ADamagedFileStopsEveryRank) {
  run_ranks(3, [&](const World& world) {
    save_checkpoint(folder(), rows_of_rank(world, 0), state_of(1), {}, DeviceMesh(world, {}));
  });
  for (const char* name : {"model-00002-of-00003.safetensors",
                           "optimizer-00003-of-00003.safetensors", "train_state.json"}) {
    const fs::path path = fs::path(folder()) / "step-1" / name;
    const std::string content = testing::content_of(path);
    std::string damaged = content;
    damaged[damaged.size() - 3] ^= 1;
    std::ofstream(path, std::ios::binary) << damaged;
    run_ranks(3, [&](const World& world) {
      CheckpointTensors loaded = rows_of_rank(world, 0);
      fill(loaded, 7);
      EXPECT_ERROR(load_checkpoint(folder(), 1, loaded, DeviceMesh(world, {})), "rank ", name);
      EXPECT_TRUE(all_equal_to(loaded, 7));
    });
    std::ofstream(path, std::ios::binary) << content;
  }
  fs::remove(folder() + "/step-1/model-00001-of-00003.safetensors");
  run_ranks(2, [&](const World& world) {
    EXPECT_ERROR(load_checkpoint(folder(), 1, rows_of_rank(world, 0), DeviceMesh(world, {})),
                 "rank 0", "model-00001-of-00003.safetensors");
  });
}

TEST_F(CheckpointLayouts, ARankThatCannotSaveStopsAllAndLeavesNothing) {
  run_ranks(3, [&](const World& world) {
    const DeviceMesh mesh(world, {});
    save_checkpoint(folder(), rows_of_rank(world, 0.5), state_of(1), {}, mesh);
    const auto expect_save_error = [&](const CheckpointTensors& tensors,
                                       std::initializer_list<std::string> parts) {
      for (const int64_t step : {1, 2}) {
        testing::expect_error([&] { save_checkpoint(folder(), tensors, state_of(step), {}, mesh); },
                              parts, __FILE__, __LINE__);
        mesh.all().barrier();
        EXPECT_EQ(std::distance(fs::directory_iterator(folder()), {}), 1) << "a leftover";
        mesh.all().barrier();
      }
    };
    CheckpointTensors bad = rows_of_rank(world, 0);
    if (world.rank() == 2) bad.optimizer[0].tensor = at::zeros({2}, at::kComplexDouble);
    expect_save_error(bad, {"rank 2: ", "optimizer-00003-of-00003.safetensors", "ComplexDouble"});
    bad = rows_of_rank(world, 0);
    if (world.rank() == 1) bad.model[0].is_counted = false;
    expect_save_error(bad, {"tensor w", "no part holds offset [2, 0] shape [2, 3]"});
    bad = rows_of_rank(world, 0);
    if (world.rank() == 1) bad.model[0].where.offset = {1, 0};
    expect_save_error(bad, {"tensor w", "parts overlap at offset [1, 0] shape [1, 3]"});
    bad = rows_of_rank(world, 0);
    if (world.rank() == 1) bad.model[0].tensor = bad.model[0].tensor.to(at::kDouble);
    expect_save_error(bad, {"tensor w", "Double [6, 3]", "Float [6, 3]"});

    CheckpointTensors loaded = rows_of_rank(world, 0);
    load_checkpoint(folder(), 1, loaded, mesh);
    EXPECT_TRUE(same_bits(loaded.model[0].tensor, rows_of_rank(world, 0.5).model[0].tensor));
  });
}

}  // namespace
}  // namespace tessera
