#include "models/llama3/llama3.h"

#include <ATen/Parallel.h>
#include <ATen/TensorOperators.h>
#include <ATen/ops/allclose.h>
#include <ATen/ops/cross_entropy_loss.h>
#include <ATen/ops/equal.h>
#include <ATen/ops/full.h>
#include <ATen/ops/linear.h>
#include <gtest/gtest.h>

#include <cmath>

#include "attention/backends/eager_attention.h"
#include "data/tokenizers/byte_tokenizer.h"
#include "tests/models/llama3/llama3_support.h"
#include "tests/support/errors.h"

namespace tessera {
namespace {

using at::Tensor;
using testing::logits_of;
using testing::masks_of;
using testing::packed_batch;
using testing::scaled_rope_llama;

Tensor loss_of(Model& model, const Batch& batch) {
  const Tensor logits = logits_of(model, batch);
  return at::cross_entropy_loss(logits.flatten(0, 1), batch.labels_BT.flatten(), {},
                                /*reduction: sum*/ 2, kIgnoreLabel);
}

std::vector<Tensor> grads_of(Model& model, const Batch& batch) {
  loss_of(model, batch).backward();
  std::vector<Tensor> grads;
  for (const ParameterSlot& slot : model.parameters()) {
    grads.push_back(std::exchange(slot.tensor->mutable_grad(), {}));
  }
  return grads;
}

TEST(Llama3, ParametersHaveTorchTitansNamesAndShapes) {
  Llama3Config config = scaled_rope_llama();
  config.n_layers = 1;
  Llama3 model(config, AttentionRegistry::with_builtins().make("eager"));
  std::string listing;
  for (const ParameterSlot& slot : model.parameters()) {
    listing += slot.name + " " + c10::str(slot.tensor->sizes()) + "\n";
  }
  EXPECT_EQ(listing,
            "tok_embeddings.weight [64, 32]\n"
            "layers.0.attention.wq.weight [32, 32]\n"
            "layers.0.attention.wk.weight [16, 32]\n"
            "layers.0.attention.wv.weight [16, 32]\n"
            "layers.0.attention.wo.weight [32, 32]\n"
            "layers.0.feed_forward.w1.weight [48, 32]\n"
            "layers.0.feed_forward.w2.weight [32, 48]\n"
            "layers.0.feed_forward.w3.weight [48, 32]\n"
            "layers.0.attention_norm.weight [32]\n"
            "layers.0.ffn_norm.weight [32]\n"
            "norm.weight [32]\n"
            "output.weight [64, 32]\n");
}

TEST(Llama3, BlocksInOrderOfTheForward) {
  const auto model = testing::make_llama3(scaled_rope_llama(), "eager", at::kFloat);
  std::vector<std::string> names;
  for (const Block* block : model->blocks()) names.push_back(block->name);
  EXPECT_EQ(names, (std::vector<std::string>{"tok_embeddings", "layers.0", "layers.1", "layers.2",
                                             "norm", "output"}));
}

std::map<std::string, InitSpec> inits_of(const Llama3Config& config) {
  Llama3 model(config, AttentionRegistry::with_builtins().make("eager"));
  std::map<std::string, InitSpec> inits;
  for (const ParameterSlot& slot : model.parameters()) inits[slot.name] = slot.init;
  return inits;
}

TEST(Llama3, InitialisationIsTorchTitans) {
  Llama3Config config = scaled_rope_llama();
  std::map<std::string, InitSpec> init = inits_of(config);
  EXPECT_EQ(init["tok_embeddings.weight"].kind, InitSpec::Kind::kNormal);
  EXPECT_EQ(init["tok_embeddings.weight"].std, 1.0);
  EXPECT_EQ(init["layers.2.ffn_norm.weight"].value, 1.0);
  EXPECT_EQ(init["norm.weight"].kind, InitSpec::Kind::kConstant);
  for (const char* name : {"attention.wq", "attention.wk", "attention.wv", "feed_forward.w1"}) {
    const InitSpec& spec = init["layers.2." + std::string(name) + ".weight"];
    EXPECT_EQ(spec.kind, InitSpec::Kind::kTruncatedNormal);
    EXPECT_EQ(spec.std, 0.02);
    EXPECT_EQ(spec.low, -2.0);
    EXPECT_EQ(spec.high, 2.0);
  }
  for (const char* name : {"attention.wo", "feed_forward.w2", "feed_forward.w3"}) {
    EXPECT_DOUBLE_EQ(init["layers.0." + std::string(name) + ".weight"].std, 0.02 / std::sqrt(2.0));
    EXPECT_DOUBLE_EQ(init["layers.2." + std::string(name) + ".weight"].std, 0.02 / std::sqrt(6.0));
  }
  const double std = 1 / std::sqrt(32.0);
  EXPECT_DOUBLE_EQ(init["output.weight"].std, std);
  EXPECT_DOUBLE_EQ(init["output.weight"].low, -3 * std);
  EXPECT_DOUBLE_EQ(init["output.weight"].high, 3 * std);

  config.depth_init = false;
  config.tied_embeddings = true;
  init = inits_of(config);
  EXPECT_DOUBLE_EQ(init["layers.0.attention.wo.weight"].std, 0.02 / std::sqrt(6.0));
  EXPECT_DOUBLE_EQ(init["tok_embeddings.weight"].std, std);
  EXPECT_EQ(init.count("output.weight"), 0u);
}

TEST(Llama3, SameSeedSameBits) {
  const auto a = testing::make_llama3(scaled_rope_llama(), "eager", at::kFloat);
  const auto b = testing::make_llama3(scaled_rope_llama(), "eager", at::kFloat);
  const auto slots_a = a->parameters(), slots_b = b->parameters();
  for (size_t i = 0; i < slots_a.size(); ++i) {
    EXPECT_TRUE(at::equal(*slots_a[i].tensor, *slots_b[i].tensor)) << slots_a[i].name;
  }
  initialize_parameters(*b, 2);
  EXPECT_FALSE(at::equal(*slots_a[0].tensor, *slots_b[0].tensor));
}

// Fresh weights know nothing: logits of deviation 1 cost half a nat more than the uniform guess.
TEST(Llama3, FreshLossIsNearUniform) {
  const Llama3Config config = scaled_rope_llama();
  const auto model = testing::make_llama3(config, "sdpa", at::kFloat);
  const Batch batch = packed_batch({{128}, {128}}, config.vocab_size);
  EXPECT_NEAR(loss_of(*model, batch).item<double>() / 254, std::log(64.0) + 0.5, 0.3);
}

TEST(Llama3, PackedRowIsItsDocumentsAlone) {
  const Llama3Config config = scaled_rope_llama();
  const auto model = testing::make_llama3(config, "eager", at::kDouble);
  const Batch batch = packed_batch({{5, 1, 20, 14}, {33, 7}}, config.vocab_size);
  const Tensor packed = logits_of(*model, batch);
  const std::vector<std::vector<int64_t>> lengths = {{5, 1, 20, 14}, {33, 7}};
  for (size_t b = 0; b < lengths.size(); ++b) {
    int64_t begin = 0;
    for (const int64_t length : lengths[b]) {
      const auto cut = [&](const Tensor& x) {
        return x.narrow(0, static_cast<int64_t>(b), 1).narrow(1, begin, length);
      };
      const Batch alone{cut(batch.tokens_BT), cut(batch.labels_BT), cut(batch.positions_BT),
                        cut(batch.document_ids_BT) * 0};
      // Three layers of sums of at most 48 terms near 1, eps 2e-16: errors of about 1e-14.
      EXPECT_TRUE(at::allclose(logits_of(*model, alone), cut(packed), 0, 1e-12)) << begin;
      begin += length;
    }
  }
}

// RoPE is relative: where a document stands in its row, and so its absolute positions, changes
// nothing.
TEST(Llama3, PositionsAreRelative) {
  const Llama3Config config = scaled_rope_llama();
  const auto model = testing::make_llama3(config, "eager", at::kDouble);
  Batch batch = packed_batch({{24}}, config.vocab_size);
  const Tensor want = logits_of(*model, batch);
  batch.positions_BT = batch.positions_BT + 100;
  EXPECT_TRUE(at::allclose(logits_of(*model, batch), want, 0, 1e-11));
}

TEST(Llama3, DocumentsDoNotLeak) {
  const Llama3Config config = scaled_rope_llama();
  for (const char* attention : {"eager", "flex", "sdpa"}) {
    const auto model = testing::make_llama3(config, attention, at::kFloat);
    const Batch batch = packed_batch({{40, 88, 72}, {150, 50}}, config.vocab_size);
    const Tensor before = logits_of(*model, batch);
    for (const int64_t changed : {0, 1, 17, 38, 39}) {
      Batch other = batch;
      other.tokens_BT = batch.tokens_BT.clone();
      Tensor token = other.tokens_BT[0][changed];
      token.fill_((token.item<int64_t>() + 1) % config.vocab_size);
      const Tensor after = logits_of(*model, other);
      EXPECT_TRUE(at::equal(after[0].narrow(0, 40, 160), before[0].narrow(0, 40, 160)))
          << attention << ", token " << changed;
      EXPECT_TRUE(at::equal(after[1], before[1])) << attention << ", token " << changed;
      EXPECT_FALSE(at::equal(after[0][39], before[0][39])) << attention << ", token " << changed;
    }
  }
}

TEST(Llama3, MasksAreMadeOnceAndOnlyByTheTrainersFunction) {
  Llama3Config config = scaled_rope_llama();
  const Batch batch = packed_batch({{5, 11}, {16}}, config.vocab_size);
  for (const char* rule : {"causal & document", "causal"}) {
    config.mask_rule = rule;
    const auto model = testing::make_llama3(config, "sdpa", at::kFloat);
    std::vector<std::pair<std::string, MaskShape>> calls;
    const CreateMaskFn counting = [&calls](const MaskMod& mod, const MaskShape& shape) {
      calls.emplace_back(mod.to_string(), shape);
      return create_block_mask(mod, shape);
    };
    const AttentionMasks masks =
        model->get_attention_masks(counting, batch, ByteTokenizer(), Extras());
    ASSERT_EQ(calls.size(), 1u);
    EXPECT_EQ(calls[0].first, rule);
    EXPECT_EQ(calls[0].second.batch, std::string(rule) == "causal" ? 1 : 2);
    EXPECT_EQ(calls[0].second.heads, 1);
    EXPECT_EQ(calls[0].second.q_len, 16);
    EXPECT_EQ(calls[0].second.kv_len, 16);
    EXPECT_EQ(masks.names(), std::vector<std::string>{"global"});
    model->forward(batch.tokens_BT, masks, {.positions_BT = batch.positions_BT}).sum().backward();
    EXPECT_EQ(calls.size(), 1u);
  }
}

// The forward obeys the masks it is handed, whatever the batch says.
TEST(Llama3, UsesTheMasksItIsGiven) {
  Llama3Config config = scaled_rope_llama();
  const auto block_causal = testing::make_llama3(config, "eager", at::kFloat);
  config.mask_rule = "causal";
  const auto causal = testing::make_llama3(config, "eager", at::kFloat);
  const Batch batch = packed_batch({{9, 7}}, config.vocab_size);
  const Tensor got = block_causal->forward(batch.tokens_BT, masks_of(*causal, batch),
                                           {.positions_BT = batch.positions_BT});
  EXPECT_TRUE(at::equal(got, logits_of(*causal, batch)));
  EXPECT_FALSE(at::equal(got, logits_of(*block_causal, batch)));
}

struct GainArgs {
  double gain = 1.0;
};

AttentionOutput scaled_values(const Tensor&, const Tensor&, const Tensor& v_BSKE, const BlockMask&,
                              const AttentionOptions& options) {
  return {.out_BTHE = v_BSKE.repeat_interleave(2, 2) * options.typed<GainArgs>().gain};
}

AttentionRegistry registry_with_gain() {
  AttentionRegistry registry = AttentionRegistry::with_builtins();
  registry.add({.name = "gain",
                .function = scaled_values,
                .signature = AttentionSignature::of<GainArgs>({{"gain", &GainArgs::gain}})});
  return registry;
}

TEST(Llama3, AttentionIsSwitchedAtRunTime) {
  const Llama3Config config = scaled_rope_llama();
  const AttentionRegistry registry = registry_with_gain();
  const auto model = testing::make_llama3(config, "eager", at::kFloat);
  const Batch batch = packed_batch({{9, 7}}, config.vocab_size);
  const Tensor eager = logits_of(*model, batch);
  set_attention(*model, registry, "gain");
  for (const AttentionSite& site : model->attention_sites()) EXPECT_EQ(site.op->name(), "gain");
  EXPECT_EQ(model->attention_sites().size(), 3U);
  EXPECT_FALSE(at::allclose(logits_of(*model, batch), eager, 1e-3, 1e-3));
  set_attention(*model, registry, "global=flex");
  EXPECT_TRUE(at::allclose(logits_of(*model, batch), eager, 1e-4, 1e-4));
  EXPECT_ERROR(set_attention(*model, registry, "flash"), "\"flash\"", "one of: eager");
  EXPECT_ERROR(set_attention(*model, registry, "sdpa, sliding=flex"), "\"sliding\"", "global");
  EXPECT_EQ(model->attention_sites()[0].op->name(), "flex");
}

TEST(Llama3, SwitchingRefusesAnotherMaskForm) {
  const auto model = testing::make_llama3(scaled_rope_llama(), "eager", at::kFloat);
  AttentionRegistry registry = AttentionRegistry::with_builtins();
  registry.add({.name = "own", .function = eager_attention, .mask_form = "none"});
  EXPECT_ERROR(set_attention(*model, registry, "own"), "mask form of \"own\"", "got \"none\"",
               "expected \"block\"", "\"eager\"");
  EXPECT_EQ(model->attention_sites()[0].op->name(), "eager");
}

// Attention arguments go from the forward to the function, also through recomputation.
TEST(Llama3, AttentionArgumentsReachTheFunction) {
  const Llama3Config config = scaled_rope_llama();
  const auto model = testing::make_llama3(config, "eager", at::kFloat);
  set_attention(*model, registry_with_gain(), "gain(gain=0.5)");
  const Batch batch = packed_batch({{9, 7}}, config.vocab_size);
  const AttentionMasks masks = masks_of(*model, batch);
  const auto forward = [&](const AttentionArgs& args) {
    return model->forward(batch.tokens_BT, masks,
                          {.positions_BT = batch.positions_BT, .attention_args = args});
  };
  EXPECT_TRUE(at::equal(forward({}), forward({{"gain", 0.5}})));
  EXPECT_FALSE(at::equal(forward({}), forward({{"gain", 2.0}})));
  EXPECT_ERROR(forward({{"gian", 2.0}}), "\"gain\"", "\"gian\"", "one of: gain");

  const Tensor loss = forward({{"gain", 2.0}}).square().sum();
  loss.backward();
  const Tensor plain = model->parameters()[3].tensor->grad().clone();
  for (Block* block : model->blocks()) block->recompute = true;
  for (const ParameterSlot& slot : model->parameters()) slot.tensor->mutable_grad().reset();
  forward({{"gain", 2.0}}).square().sum().backward();
  EXPECT_TRUE(at::equal(model->parameters()[3].tensor->grad(), plain));
}

TEST(Llama3, RecomputeChangesNoBit) {
  for (const bool tied : {false, true}) {
    Llama3Config config = scaled_rope_llama();
    config.tied_embeddings = tied;
    const auto model = testing::make_llama3(config, "sdpa", at::kFloat);
    const Batch batch = packed_batch({{60, 68}, {128}}, config.vocab_size);
    const std::vector<Tensor> want = grads_of(*model, batch);
    for (const size_t every : {1, 2}) {
      const std::vector<Block*> blocks = model->blocks();
      for (size_t i = 0; i < blocks.size(); ++i) blocks[i]->recompute = i % every == 0;
      const std::vector<Tensor> got = grads_of(*model, batch);
      for (size_t i = 0; i < want.size(); ++i) {
        ASSERT_TRUE(want[i].defined() && got[i].defined());
        EXPECT_TRUE(at::equal(got[i], want[i])) << model->parameters()[i].name;
      }
    }
  }
}

// Two microbatches one after the other add up, and every parameter takes part.
TEST(Llama3, GradientsAreThoseOfTheDocumentsAlone) {
  const Llama3Config config = scaled_rope_llama();
  const auto model = testing::make_llama3(config, "eager", at::kDouble);
  const Batch batch = packed_batch({{20, 12}}, config.vocab_size);
  const std::vector<Tensor> want = grads_of(*model, batch);
  for (const auto& [begin, length] : std::vector<std::pair<int64_t, int64_t>>{{0, 20}, {20, 12}}) {
    const auto cut = [begin = begin, length = length](const Tensor& x) {
      return x.narrow(1, begin, length);
    };
    loss_of(*model, {cut(batch.tokens_BT), cut(batch.labels_BT), cut(batch.positions_BT),
                     cut(batch.document_ids_BT) * 0})
        .backward();
  }
  const std::vector<ParameterSlot> slots = model->parameters();
  for (size_t i = 0; i < slots.size(); ++i) {
    EXPECT_TRUE(at::allclose(slots[i].tensor->grad(), want[i], 1e-10, 1e-12)) << slots[i].name;
    EXPECT_GT(want[i].abs().max().item<double>(), 0) << slots[i].name;
  }
}

TEST(Llama3, HeadWeightIsTheSlot) {
  Llama3Config config = scaled_rope_llama();
  for (const bool tied : {false, true}) {
    config.tied_embeddings = tied;
    const auto model = testing::make_llama3(config, "eager", at::kFloat);
    const std::vector<ParameterSlot> slots = model->parameters();
    const Tensor& owner = tied ? *slots.front().tensor : *slots.back().tensor;
    EXPECT_TRUE(model->head_weight().is_same(owner));
    EXPECT_EQ(model->num_parameters(), config.num_parameters());
    const Batch batch = packed_batch({{8}}, config.vocab_size);
    const Tensor hidden = model->trunk(batch.tokens_BT, masks_of(*model, batch),
                                       {.positions_BT = batch.positions_BT});
    EXPECT_TRUE(at::equal(model->head(hidden), at::linear(hidden, model->head_weight())));
  }
}

TEST(Llama3, EachBlockIsASegment) {
  const auto model = testing::make_llama3(scaled_rope_llama(), "eager", at::kFloat);
  std::string log;
  for (Block* block : model->blocks()) {
    block->callbacks.observe = [&log, block](const Tensor&) { log += block->name + " "; };
    block->callbacks.after_backward = [&log, block] { log += "~" + block->name + " "; };
  }
  logits_of(*model, packed_batch({{8}}, 64)).sum().backward();
  EXPECT_EQ(log,
            "tok_embeddings layers.0 layers.1 layers.2 norm output "
            "~output ~norm ~layers.2 ~layers.1 ~layers.0 ~tok_embeddings ");
}

TEST(Llama3, ThreadCountChangesNothingThatMatters) {
  const int threads = at::get_num_threads();
  const auto model = testing::make_llama3(llama3_flavor("debugmodel"), "sdpa", at::kFloat);
  const Batch batch = packed_batch({{100, 156}, {256}}, 2048);
  at::set_num_threads(1);
  const Tensor one = logits_of(*model, batch);
  at::set_num_threads(2);
  const Tensor two = logits_of(*model, batch);
  at::set_num_threads(threads);
  EXPECT_LE((one - two).abs().max().item<double>(), 1e-6 * one.abs().max().item<double>());
}

TEST(Llama3, HalfPrecisionRunsThrough) {
  const Llama3Config config = scaled_rope_llama();
  const auto model = testing::make_llama3(config, "sdpa", at::kBFloat16);
  const auto exact = testing::make_llama3(config, "eager", at::kFloat);
  const Batch batch = packed_batch({{30, 34}}, config.vocab_size);
  const Tensor logits = logits_of(*model, batch);
  EXPECT_EQ(logits.scalar_type(), at::kBFloat16);
  // bf16 keeps 8 bits: a relative 4e-3 per rounding, and a dozen roundings in a row of layers.
  const Tensor want = logits_of(*exact, batch);
  EXPECT_LE((logits.to(at::kFloat) - want).abs().max().item<double>(),
            12 * 4e-3 * want.abs().max().item<double>());
}

TEST(Llama3, Errors) {
  const Llama3Config config = scaled_rope_llama();
  const auto model = testing::make_llama3(config, "eager", at::kFloat);
  const Batch batch = packed_batch({{8}, {8}}, config.vocab_size);
  const AttentionMasks masks = masks_of(*model, batch);
  const ForwardInputs inputs{.positions_BT = batch.positions_BT};
  EXPECT_ERROR(model->forward(batch.tokens_BT.to(at::kFloat), masks, inputs), "tokens", "Float",
               "Long [B, T]");
  EXPECT_ERROR(model->forward(batch.tokens_BT[0], masks, inputs), "tokens", "[8]", "Long [B, T]");
  EXPECT_ERROR(model->forward(batch.tokens_BT + 60, masks, inputs), "tokens range", "0 to 63",
               "vocab_size 64");
  EXPECT_ERROR(model->forward(batch.tokens_BT - 64, masks, inputs), "tokens range from -");
  EXPECT_ERROR(model->forward(batch.tokens_BT, {}, inputs), "global");
  EXPECT_ERROR(model->forward(batch.tokens_BT, masks, {}), "positions_BT is undefined");
  EXPECT_ERROR(model->forward(batch.tokens_BT, masks, {.positions_BT = batch.positions_BT[0]}),
               "positions_BT", "[8]", "[2, 8]");
  EXPECT_ERROR(
      model->forward(batch.tokens_BT, masks, {.positions_BT = batch.positions_BT.to(at::kFloat)}),
      "positions_BT", "Float", "Long");
  const Batch wide = packed_batch({{257}}, config.vocab_size);
  EXPECT_ERROR(logits_of(*model, wide), "257", "max_seq_len", "256");
  Llama3 unmaterialised(config, AttentionRegistry::with_builtins().make("eager"));
  EXPECT_ERROR(unmaterialised.forward(batch.tokens_BT, masks, inputs), "meta device");
  EXPECT_ERROR(initialize_parameters(unmaterialised, 1), "tok_embeddings.weight", "meta device");
}

}  // namespace
}  // namespace tessera
