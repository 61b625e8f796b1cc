// Scores tokens with the Llama of a Hugging Face folder: the loss of each token, given those
// before.
//
//   score_folder <folder> <token id> <token id> ...
#include <ATen/core/grad_mode.h>
#include <ATen/ops/cross_entropy_loss.h>

#include <cstdio>
#include <exception>
#include <string>
#include <vector>

#include "attention/registry/registry.h"
#include "data/loader/packing.h"
#include "data/tokenizers/byte_tokenizer.h"
#include "models/llama3/hf.h"
#include "trainer/step/rank_model.h"

namespace {

// One loss for each token but the first, [T].
at::Tensor losses_of(const std::string& folder, const std::vector<int64_t>& tokens) {
  const at::NoGradGuard no_grad;
  const tessera::Llama3Config config = tessera::read_hf_llama3_config(folder);
  const tessera::AttentionOp attention = tessera::AttentionRegistry::with_builtins().make("flex");
  tessera::RankModel rank({}, [&](const tessera::ModelPlacement& placement) {
    return std::make_unique<tessera::Llama3>(config, attention, placement);
  });
  const tessera::ByteTokenizer tokenizer;  // rules that read tokens ask for it: here there is none
  rank.materialise(tokenizer, tessera::create_block_mask);
  tessera::load_hf_llama3(config, rank.parameters().named_masters(), folder);
  rank.parameters().refresh();

  const tessera::Batch batch =
      tessera::pack_documents({tokens}, static_cast<int64_t>(tokens.size()) - 1);
  tessera::Model& model = rank.front();
  const tessera::AttentionMasks masks =
      model.get_attention_masks(tessera::create_block_mask, batch, tokenizer, {});
  const at::Tensor logits_BTV =
      model.forward(batch.tokens_BT, masks, {.positions_BT = batch.positions_BT});
  return at::cross_entropy_loss(logits_BTV.flatten(0, 1), batch.labels_BT.flatten(), {},
                                /*reduction: none*/ 0);
}

}  // namespace

int main(int argc, char** argv) {
  if (argc < 4) {
    std::fprintf(stderr, "usage: %s <Hugging Face folder> <token id> <token id> ...\n", argv[0]);
    return 2;
  }
  try {
    std::vector<int64_t> tokens;
    for (int i = 2; i < argc; ++i) tokens.push_back(std::stoll(argv[i]));
    const at::Tensor losses_T = losses_of(argv[1], tokens);
    for (size_t i = 1; i < tokens.size(); ++i) {
      const auto t = static_cast<int64_t>(i) - 1;
      std::printf("token %5ld  loss %8.4f\n", static_cast<long>(tokens[i]),
                  losses_T[t].item<double>());
    }
    std::printf("mean loss %.4f\n", losses_T.mean().item<double>());
  } catch (const std::exception& error) {
    std::fprintf(stderr, "error: %s\n", error.what());
    return 1;
  }
  return 0;
}
