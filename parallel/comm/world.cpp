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

constexpr int64_t kPatience = 12;  // heartbeats in the grace of a silent rank

std::vector<int64_t> every_rank(int64_t size) {
  std::vector<int64_t> ranks(static_cast<size_t>(size));
  std::iota(ranks.begin(), ranks.end(), 0);
  return ranks;
}

// The ranks that have a life sign, which those that never joined have not.
std::vector<int64_t> who_has_spoken(c10d::Store& store, int64_t size) {
  std::vector<int64_t> ranks = every_rank(size);
  std::erase_if(ranks, [&](int64_t rank) { return !store.check({Heart::key(rank)}); });
  return ranks;
}

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
  if (options.size == 1) return Impl::without_store(options);
  auto store = open_store(options);  // the first connection, as the store may have to be served
  World world = Impl::over(std::move(store), reopen_store(options), options);
  join(*world.impl_->store, options);
  return world;
}

std::vector<World> World::in_one_process(int64_t size, Milliseconds timeout) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  store->setTimeout(timeout);
  std::vector<World> worlds;
  for (int64_t rank = 0; rank < size; ++rank) {
    const WorldOptions options = {
        .rank = rank, .size = size, .store_is_served = true, .timeout = timeout};
    worlds.push_back(size > 1 ? Impl::over(store, store, options) : Impl::without_store(options));
  }
  return worlds;
}

World World::Impl::over(c10::intrusive_ptr<c10d::Store> store,
                        c10::intrusive_ptr<c10d::Store> heart_store, const WorldOptions& options) {
  auto impl = without_store(options).impl_;
  impl->store = std::move(store);
  impl->heart = std::make_unique<Heart>(std::move(heart_store), options.rank,
                                        std::max(options.grace / kPatience, Milliseconds(1)));
  return World(std::move(impl));
}

World World::Impl::without_store(const WorldOptions& options) {
  auto impl = std::make_shared<Impl>();
  impl->options = options;
  return World(std::move(impl));
}

LifeWatch World::Impl::life_watch() const {
  return LifeWatch({.rank = options.rank, .num_ranks = options.size, .patience = kPatience});
}

World::Impl::~Impl() {
  backends.clear();
  if (!heart) return;
  heart->say_left();
  if (options.rank != 0 || options.store_is_served) return;
  try {
    const auto end = std::chrono::steady_clock::now() + options.timeout;
    const std::vector<int64_t> ranks = who_has_spoken(*store, options.size);
    LifeWatch watch = life_watch();
    do {
      watch.look(read_life_signs(*store, options.size, ranks));
    } while (!watch.is_alone() && std::chrono::steady_clock::now() < end && heart->wait_for_beat());
  } catch (const std::exception&) {  // nobody reaches the store any more
  }
}

World World::planned(int64_t rank, int64_t size) {
  TORCH_CHECK(rank >= 0 && rank < size, "rank is ", rank, "; expected 0 to ", size - 1);
  return Impl::without_store({.rank = rank, .size = size});
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

ProcessGroup World::all() const { return group("world", every_rank(size())); }

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

OtherRanks World::report_failure() const {
  if (!impl_->store) return {};
  LifeWatch watch = impl_->life_watch();
  std::string reason = "no heartbeat gets through";
  try {
    impl_->heart->say_failed();
    do {
      watch.look(read_life_signs(*impl_->store, size(), every_rank(size())));
      if (watch.is_settled()) {
        return {watch.others(Life::kLost), watch.others(Life::kLeft), watch.others(Life::kLives)};
      }
    } while (impl_->heart->wait_for_beat());
  } catch (const std::exception& error) {
    reason = backend_message(error);
  }
  throw CommError("the store at " + where(impl_->options) + " is gone as well" +
                  (impl_->options.store_is_served ? "" : " (rank 0 serves it)") + ": " + reason);
}

}  // namespace tessera
