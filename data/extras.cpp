#include "data/extras.h"

#include <ATen/ops/aminmax.h>
#include <c10/util/Exception.h>

namespace tessera {
namespace {

// rows is the number of rows of the batch, length the expected size of dim 1.
void check_member(const char* name, const at::Tensor& tensor, const char* expected, bool has_type,
                  int64_t dims, int64_t rows, int64_t length, at::Device device) {
  TORCH_CHECK(tensor.defined(), "Extras::", name, ": got an undefined tensor, expected ", expected,
              ", as others are defined");
  TORCH_CHECK(has_type && tensor.dim() == dims, "Extras::", name, ": got ", tensor.scalar_type(),
              " ", tensor.sizes(), ", expected ", expected);
  TORCH_CHECK(tensor.size(0) == rows && tensor.size(1) == length, "Extras::", name, ": got ",
              tensor.sizes(), ", expected ", expected, " of ", rows, " rows and ", length);
  TORCH_CHECK(tensor.device() == device, "Extras::", name, ": got device ", tensor.device(),
              ", expected the device of the tokens, ", device);
}

// Looks at values on the CPU only: on another device that would wait for the device.
void check_slots(const at::Tensor& feature_of_token_BT, int64_t num_slots) {
  if (!feature_of_token_BT.is_cpu() || feature_of_token_BT.numel() == 0) return;
  const auto [low, high] = at::aminmax(feature_of_token_BT);
  TORCH_CHECK(low.item<int64_t>() >= kNoFeature && high.item<int64_t>() < num_slots,
              "Extras::feature_of_token_BT: got values from ", low.item<int64_t>(), " to ",
              high.item<int64_t>(), ", expected ", kNoFeature, " (none) to ", num_slots - 1, ": ",
              num_slots, " patch slots");
}

}  // namespace

bool Extras::empty() const {
  return !patches_BPC.defined() && !image_ids_BP.defined() && !feature_of_token_BT.defined();
}

void Extras::check(const at::Tensor& tokens_BT) const {
  if (empty()) return;
  const int64_t rows = tokens_BT.size(0);
  const at::Device device = tokens_BT.device();
  const auto is = [](const at::Tensor& ids, at::ScalarType type) {
    return ids.defined() && ids.scalar_type() == type;
  };
  const bool has_slots = patches_BPC.defined() && patches_BPC.dim() > 1;
  const int64_t num_slots = has_slots ? patches_BPC.size(1) : 0;
  check_member("patches_BPC", patches_BPC, "floating point [B, P, C]",
               patches_BPC.defined() && patches_BPC.is_floating_point(), 3, rows, num_slots,
               device);
  check_member("image_ids_BP", image_ids_BP, "int64 (Long) [B, P]", is(image_ids_BP, at::kLong), 2,
               rows, num_slots, device);
  check_member("feature_of_token_BT", feature_of_token_BT, "int64 (Long) [B, T]",
               is(feature_of_token_BT, at::kLong), 2, rows, tokens_BT.size(1), device);
  check_slots(feature_of_token_BT, num_slots);
}

Extras Extras::to(at::Device device) const {
  if (empty()) return {};
  return {patches_BPC.to(device), image_ids_BP.to(device), feature_of_token_BT.to(device)};
}

Extras Extras::rows(int64_t begin, int64_t end) const {
  if (empty()) return {};
  return {patches_BPC.slice(0, begin, end), image_ids_BP.slice(0, begin, end),
          feature_of_token_BT.slice(0, begin, end)};
}

}  // namespace tessera
