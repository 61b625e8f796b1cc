#include "parallel/comm/world.h"

#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>
#include <torch/csrc/distributed/c10d/HashStore.hpp>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <map>
#include <numeric>

#include "parallel/comm/backends.h"
#include "parallel/comm/process_group_impl.h"

namespace tessera {

struct World::Impl {
  WorldOptions options;
  c10::intrusive_ptr<c10d::Store> store{};  // null for one rank
  std::map<std::vector<int64_t>, c10::intrusive_ptr<c10d::Backend>> backends{};
};

namespace {

using Milliseconds = std::chrono::milliseconds;

std::string where(const WorldOptions& options) {
  return options.address + ":" + std::to_string(options.port);
}

void check_options(const WorldOptions& options) {
  TORCH_CHECK(options.size >= 1, "world size is ", options.size, "; expected at least 1");
  TORCH_CHECK(options.rank >= 0 && options.rank < options.size, "rank is ", options.rank,
              "; expected 0 to ", options.size - 1);
  TORCH_CHECK(options.port >= 1 && options.port <= 65535, "port of the store is ", options.port,
              "; expected 1 to 65535");
}

bool is_loopback(const std::string& address) {
  return address == "localhost" || address.rfind("127.", 0) == 0 || address == "::1";
}

c10::intrusive_ptr<c10d::Store> open_tcp_store(const WorldOptions& options) {
  c10d::TCPStoreOptions tcp;
  tcp.port = static_cast<uint16_t>(options.port);
  tcp.isServer = options.rank == 0 && !options.store_is_served;
  tcp.waitWorkers = false;
  tcp.timeout = options.timeout;
  try {
    return c10::make_intrusive<c10d::TCPStore>(options.address, tcp);
  } catch (const std::exception& error) {
    const std::string doing = tcp.isServer ? "cannot serve the store of this run at "
                                           : "cannot reach the store of this run at ";
    throw CommError("rank " + std::to_string(options.rank) + " " + doing + where(options) + ": " +
                    backend_message(error));
  }
}

std::string join_key(int64_t rank) { return "joined/" + std::to_string(rank); }

std::vector<std::string> keys_of_all_ranks(int64_t size, std::string (*key)(int64_t)) {
  std::vector<std::string> keys;
  for (int64_t rank = 0; rank < size; ++rank) keys.push_back(key(rank));
  return keys;
}

// The ranks whose key is not there when `timeout` has passed.
std::vector<int64_t> wait_for_all(c10d::Store& store, int64_t size, std::string (*key)(int64_t),
                                  Milliseconds timeout) {
  try {
    store.wait(keys_of_all_ranks(size, key), timeout);
    return {};
  } catch (const std::exception&) {  // which ones are missing is asked below
  }
  std::vector<int64_t> missing;
  for (int64_t rank = 0; rank < size; ++rank) {
    if (!store.check({key(rank)})) missing.push_back(rank);
  }
  return missing;
}

void join(c10d::Store& store, const WorldOptions& options) {
  store.set(join_key(options.rank), std::string("here"));
  const std::vector<int64_t> missing = wait_for_all(store, options.size, join_key, options.timeout);
  if (missing.empty()) return;
  throw CommError(c10::str("rank ", options.rank, ": ", missing.size(), " of ", options.size,
                           " ranks did not join at ", where(options), " within ",
                           static_cast<double>(options.timeout.count()) / 1000,
                           " s: missing are ranks ", c10::Join(", ", missing)));
}

std::string failure_key(int64_t rank) { return "failed/" + std::to_string(rank); }

}  // namespace

World::World() : impl_(std::make_shared<Impl>()) {}

World World::connect(const WorldOptions& options) {
  check_options(options);
  auto impl = std::make_shared<Impl>(Impl{.options = options});
  if (options.size == 1) return World(std::move(impl));
  auto tcp = open_tcp_store(options);
  impl->store = c10::make_intrusive<c10d::PrefixStore>(
      "tessera/attempt" + std::to_string(options.attempt), std::move(tcp));
  join(*impl->store, options);
  return World(std::move(impl));
}

std::vector<World> World::in_one_process(int64_t size, Milliseconds timeout) {
  const auto store = c10::make_intrusive<c10d::HashStore>();
  store->setTimeout(timeout);
  std::vector<World> worlds;
  for (int64_t rank = 0; rank < size; ++rank) {
    auto impl = std::make_shared<Impl>();
    impl->options = {.rank = rank, .size = size, .timeout = timeout};
    if (size > 1) impl->store = store;
    worlds.push_back(World(std::move(impl)));
  }
  return worlds;
}

World World::planned(int64_t rank, int64_t size) {
  TORCH_CHECK(rank >= 0 && rank < size, "rank is ", rank, "; expected 0 to ", size - 1);
  auto impl = std::make_shared<Impl>();
  impl->options = {.rank = rank, .size = size};
  return World(std::move(impl));
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

  const WorldOptions& options = impl_->options;
  auto& backend = impl_->backends[ranks];
  const int64_t group_rank = here - ranks.begin();
  if (!backend && impl_->store) {  // without a store: planned
    const BackendRequest request{.store = c10::make_intrusive<c10d::PrefixStore>(
                                     "group/" + c10::Join(",", ranks), impl_->store),
                                 .rank = group_rank,
                                 .size = static_cast<int64_t>(ranks.size()),
                                 .timeout = options.timeout,
                                 .network_interface = options.network_interface,
                                 .loopback = is_loopback(options.address),
                                 .device_index = options.device_index};
    try {
      backend = options.device == c10::DeviceType::CUDA ? make_nccl_backend(request)
                                                        : make_gloo_backend(request);
    } catch (const c10::DistError& error) {
      throw CommError(c10::str("rank ", rank(), ": cannot connect group \"", name, "\" (ranks ",
                               c10::Join(", ", ranks), "): ", backend_message(error)));
    }
  }
  auto group = std::make_shared<ProcessGroup::Impl>();
  group->name = name;
  group->ranks = ranks;
  group->rank = group_rank;
  group->backend = backend;
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
    impl_->store->set(failure_key(rank()), std::string("here"));
    return wait_for_all(*impl_->store, size(), failure_key, grace);
  } catch (const std::exception& error) {
    throw CommError("the store at " + where(impl_->options) + " is gone as well" +
                    (impl_->options.store_is_served ? "" : ": it is served by rank 0"));
  }
}

}  // namespace tessera
