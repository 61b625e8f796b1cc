#include "models/init/init.h"

#include <ATen/Parallel.h>
#include <ATen/core/grad_mode.h>
#include <ATen/ops/empty.h>
#include <c10/util/Exception.h>

#include "models/init/philox.h"

namespace tessera {
namespace {

using at::Tensor;

constexpr int64_t kGrain = 1 << 15;  // elements a thread takes at least: about 0.1 ms

// FNV-1a over the name, then the finaliser of splitmix64 over hash and seed: names and seeds that
// differ in one bit give unrelated keys.
PhiloxKey parameter_key(uint64_t seed, const std::string& name) {
  uint64_t hash = 0xCBF29CE484222325u;
  for (const char c : name) hash = (hash ^ static_cast<unsigned char>(c)) * 0x100000001B3u;
  hash += seed * 0x9E3779B97F4A7C15u;
  hash = (hash ^ (hash >> 30)) * 0xBF58476D1CE4E5B9u;
  hash = (hash ^ (hash >> 27)) * 0x94D049BB133111EBu;
  hash ^= hash >> 31;
  return {static_cast<uint32_t>(hash), static_cast<uint32_t>(hash >> 32)};
}

// A rectangle in row-major order is a sequence of runs that are contiguous in the whole parameter.
class Runs {
 public:
  Runs(const Rectangle& where, at::IntArrayRef whole_shape)
      : sizes_(where.shape), offset_(where.offset), strides_(where.shape.size()) {
    int64_t stride = 1;
    bool joined = true;  // the dimensions so far are whole, so that the run goes on in the next one
    for (size_t d = sizes_.size(); d-- > 0;) {
      strides_[d] = stride;
      stride *= whole_shape[d];
      if (joined) run_ *= sizes_[d];
      joined = joined && sizes_[d] == whole_shape[d];
    }
  }

  int64_t run_length() const { return run_; }

  // The index of element i of the rectangle in the whole parameter.
  int64_t global_index(int64_t i) const {
    int64_t index = 0;
    for (size_t d = sizes_.size(); d-- > 0;) {
      index += (offset_[d] + i % sizes_[d]) * strides_[d];
      i /= sizes_[d];
    }
    return index;
  }

 private:
  std::vector<int64_t> sizes_, offset_, strides_;
  int64_t run_ = 1;
};

void check_shard(const Tensor& shard, const Rectangle& where, at::IntArrayRef whole_shape,
                 const std::string& name) {
  TORCH_CHECK(shard.defined() && !shard.is_meta(), "parameter '", name, "' has ",
              shard.defined() ? "no storage (meta device)" : "no tensor",
              ": materialise it before its initialisation");
  TORCH_CHECK(at::isFloatingType(shard.scalar_type()), "parameter '", name, "' has dtype ",
              shard.scalar_type(), ", expected a floating-point type");
  bool inside = shard.sizes() == at::IntArrayRef(where.shape) &&
                where.shape.size() == whole_shape.size() &&
                where.offset.size() == whole_shape.size();
  for (size_t d = 0; inside && d < whole_shape.size(); ++d) {
    inside = where.offset[d] >= 0 && where.offset[d] <= whole_shape[d] - where.shape[d];
  }
  TORCH_CHECK(inside, "parameter '", name, "': a shard of shape ", shard.sizes(), " at offset ",
              at::IntArrayRef(where.offset), " does not lie inside the parameter's shape ",
              whole_shape);
}

void fill_run(float* out, int64_t first, int64_t count, PhiloxKey key, const InitSpec& init) {
  const auto mean = static_cast<float>(init.mean), std = static_cast<float>(init.std);
  // Bounds beyond the reach of fill_normal (6.66 standard deviations) cut nothing off, and its
  // tails are finer.
  const double reach = 7.0 * init.std;
  const bool cut = init.kind == InitSpec::Kind::kTruncatedNormal &&
                   (init.low > init.mean - reach || init.high < init.mean + reach);
  if (cut) {
    fill_truncated_normal(out, first, count, key, mean, std, static_cast<float>(init.low),
                          static_cast<float>(init.high));
  } else {
    fill_normal(out, first, count, key, mean, std);
  }
}

void fill_random(float* data, int64_t numel, const Runs& runs, PhiloxKey key,
                 const InitSpec& init) {
  const int64_t run = runs.run_length();
  at::parallel_for(0, numel, kGrain, [&](int64_t begin, int64_t end) {
    for (int64_t i = begin; i < end;) {
      const int64_t stop = std::min(end, (i / run + 1) * run);
      fill_run(data + i, runs.global_index(i), stop - i, key, init);
      i = stop;
    }
  });
}

}  // namespace

void initialize_shard(Tensor& shard, const Rectangle& where, at::IntArrayRef whole_shape,
                      const InitSpec& init, uint64_t seed, const std::string& name) {
  check_shard(shard, where, whole_shape, name);
  at::NoGradGuard no_grad;
  if (init.kind == InitSpec::Kind::kConstant) {
    shard.fill_(init.value);
    return;
  }
  if (shard.numel() == 0) return;
  const Runs runs(where, whole_shape);
  const bool in_place =
      shard.is_cpu() && shard.scalar_type() == at::kFloat && shard.is_contiguous();
  const Tensor values =
      in_place ? shard : at::empty(shard.sizes(), at::TensorOptions().dtype(at::kFloat));
  fill_random(values.mutable_data_ptr<float>(), values.numel(), runs, parameter_key(seed, name),
              init);
  if (!in_place) shard.copy_(values);
}

void initialize(Tensor& parameter, const InitSpec& init, uint64_t seed, const std::string& name) {
  const std::vector<int64_t> shape =
      parameter.defined() ? parameter.sizes().vec() : std::vector<int64_t>();
  initialize_shard(parameter, Rectangle::whole(shape), shape, init, seed, name);
}

}  // namespace tessera
