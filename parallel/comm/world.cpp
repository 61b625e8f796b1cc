#include "parallel/comm/world.h"

#include <c10/util/Exception.h>
#include <torch/csrc/distributed/c10d/HashStore.hpp>

#include <algorithm>
#include <numeric>

#include "parallel/comm/process_group_impl.h"
#include "parallel/comm/rendezvous.h"
#include "parallel/comm/world_impl.h"

namespace tessera {

namespace {

using Milliseconds = std::chrono::milliseconds;

void check_options(const WorldOptions& options) {
  TORCH_CHECK(options.size >= 1, "world size is ", options.size, "; expected at least 1");
  TORCH_CHECK(options.rank >= 0 && options.rank < options.size, "rank is ", options.rank,
              "; expected 0 to ", options.size - 1);
  TORCH_CHECK(options.port >= 1 && options.port <= 65535, "port of the store is ", options.port,
              "; expected 1 to 65535");
}

}  // namespace

World::World() : impl_(std::make_shared<Impl>()) {}

World World::connect(const WorldOptions& options) {
  check_options(options);
  if (options.size == 1) return Impl::over(nullptr, options);
  World world = Impl::over(open_store(options), options);
  join(*world.impl_->store, options);
  return world;
}

std::vector<World> World::in_one_process(int64_t size, Milliseconds timeout) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  store->setTimeout(timeout);
  std::vector<World> worlds;
  for (int64_t rank = 0; rank < size; ++rank) {
    worlds.push_back(
        Impl::over(size > 1 ? store : nullptr, {.rank = rank, .size = size, .timeout = timeout}));
  }
  return worlds;
}

World World::Impl::over(c10::intrusive_ptr<c10d::Store> store, const WorldOptions& options) {
  return World(std::make_shared<Impl>(Impl{.options = options, .store = std::move(store)}));
}

World World::planned(int64_t rank, int64_t size) {
  TORCH_CHECK(rank >= 0 && rank < size, "rank is ", rank, "; expected 0 to ", size - 1);
  return Impl::over(nullptr, {.rank = rank, .size = size});
}

int64_t World::rank() const { return impl_->options.rank; }
int64_t World::size() const { return impl_->options.size; }

ProcessGroup World::group(const std::string& name, const std::vector<int64_t>& ranks) const {
  const auto here = std::find(ranks.begin(), ranks.end(), rank());
  TORCH_CHECK(here != ranks.end() && std::is_sorted(ranks.begin(), ranks.end()) &&
                  std::adjacent_find(ranks.begin(), ranks.end()) == ranks.end() &&
                  ranks.front() >= 0 && ranks.back() < size(),
              "group \"", name, "\" of ranks ", ranks,
              ": expected distinct ranks, ascending, from 0 to ", size() - 1, ", with rank ",
              rank(), " among them");
  if (ranks.size() == 1) return ProcessGroup(name, ranks);

  auto& backends = impl_->backends;
  if (!backends.contains(ranks) && impl_->store) {  // without a store: planned
    backends.emplace(
        ranks, connect_group(impl_->store, impl_->options, name, ranks,
                             impl_->options.device == c10::DeviceType::CUDA ? make_nccl_backend
                                                                            : make_gloo_backend));
  }
  auto group = std::make_shared<ProcessGroup::Impl>();
  group->name = name;
  group->ranks = ranks;
  group->rank = here - ranks.begin();
  if (impl_->store) group->backend = backends.at(ranks);
  return ProcessGroup(std::move(group));
}

ProcessGroup World::all() const {
  std::vector<int64_t> ranks(static_cast<size_t>(size()));
  std::iota(ranks.begin(), ranks.end(), 0);
  return group("world", ranks);
}

void World::set_timeout(Milliseconds timeout) const {
  impl_->options.timeout = timeout;
  for (const auto& [ranks, backend] : impl_->backends) backend->setTimeout(timeout);
}

void World::publish(const std::string& key, const std::string& value) const {
  if (!impl_->store) return;
  try {
    impl_->store->set("value/" + key, value);
  } catch (const std::exception& error) {
    throw CommError("cannot publish \"" + key + "\": the store at " + where(impl_->options) +
                    " does not answer: " + backend_message(error));
  }
}

std::string World::read(const std::string& key) const {
  TORCH_CHECK(impl_->store, "World::read(\"", key, "\"): one rank has nobody to read from");
  try {
    const std::string full_key = "value/" + key;
    impl_->store->wait({full_key}, impl_->options.timeout);
    return impl_->store->get_to_str(full_key);
  } catch (const std::exception& error) {
    throw CommError("no rank published \"" + key + "\" at " + where(impl_->options) + ": " +
                    backend_message(error));
  }
}

std::vector<int64_t> World::silent_ranks(Milliseconds grace) const {
  if (!impl_->store) return {};
  try {
    const RollCall failed = {"failed", rank(), size()};
    failed.answer(*impl_->store, "here");
    return failed.wait(*impl_->store, grace);
  } catch (const std::exception& error) {
    throw CommError("the store at " + where(impl_->options) + " is gone as well" +
                    (impl_->options.store_is_served ? "" : ": it is served by rank 0"));
  }
}

}  // namespace tessera
