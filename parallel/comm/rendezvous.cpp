#include "parallel/comm/rendezvous.h"

#include <c10/util/Exception.h>
#include <c10/util/StringUtil.h>
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <algorithm>

#include "parallel/comm/process_group_impl.h"

namespace tessera {

namespace {

using Milliseconds = std::chrono::milliseconds;

bool is_loopback(const std::string& address) {
  return address == "localhost" || address.rfind("127.", 0) == 0 || address == "::1";
}

// What a rank answers once it is connected to all others of a group; any other answer is the reason
// why it is not.
constexpr const char* kConnected = "connected";

double seconds(Milliseconds time) { return static_cast<double>(time.count()) / 1000; }

BackendRequest backend_request(const WorldOptions& options, const RollCall& members,
                               c10::intrusive_ptr<c10d::Store> store) {
  return {.store = std::move(store),
          .rank = members.rank,
          .size = members.size,
          .timeout = options.timeout,
          .network_interface = options.network_interface,
          .loopback = is_loopback(options.address),
          .device_index = options.device_index};
}

// Connects this rank and tells the others how that went.
c10::intrusive_ptr<c10d::Backend> connect_rank(const BackendRequest& request,
                                               const RollCall& members, const MakeBackend& make) {
  try {
    auto backend = make(request);
    members.answer(*request.store, kConnected);
    return backend;
  } catch (const std::exception& error) {
    try {
      members.answer(*request.store, backend_message(error));
    } catch (const std::exception&) {  // the store failed too; the first error is the one to tell
    }
    throw;
  }
}

// Waits for the others, and returns what is wrong with them, or "".
std::string trouble_with_others(const RollCall& members, const std::vector<int64_t>& ranks,
                                c10d::Store& store, Milliseconds timeout) {
  std::vector<int64_t> missing = members.wait(store, timeout);
  for (int64_t& rank : missing) rank = ranks[rank];
  if (!missing.empty()) {
    return c10::str("not connected within ", seconds(timeout), " s: ranks ",
                    c10::Join(", ", missing));
  }
  for (int64_t rank = 0; rank < members.size; ++rank) {
    const std::string said = store.get_to_str(members.key(rank));
    if (said != kConnected) return c10::str("rank ", ranks[rank], " could not: ", said);
  }
  return "";
}

}  // namespace

std::string where(const WorldOptions& options) {
  return options.address + ":" + std::to_string(options.port);
}

void RollCall::answer(c10d::Store& store, const std::string& text) const {
  store.set(key(rank), text);
}

std::vector<int64_t> RollCall::wait(c10d::Store& store, Milliseconds timeout) const {
  std::vector<std::string> keys;
  for (int64_t other = 0; other < size; ++other) keys.push_back(key(other));
  try {
    store.wait(keys, timeout);
    return {};
  } catch (const std::exception&) {  // which ones are missing is asked below
  }
  std::vector<int64_t> missing;
  for (int64_t other = 0; other < size; ++other) {
    if (!store.check({key(other)})) missing.push_back(other);
  }
  return missing;
}

c10::intrusive_ptr<c10d::Store> open_store(const WorldOptions& options) {
  c10d::TCPStoreOptions tcp;
  tcp.port = static_cast<uint16_t>(options.port);
  tcp.isServer = options.rank == 0 && !options.store_is_served;
  tcp.waitWorkers = false;
  // A store that this process serves answers as soon as the processor lets it.
  if (!tcp.isServer) tcp.timeout = options.timeout;
  try {
    auto store = c10::make_intrusive<c10d::TCPStore>(options.address, tcp);
    store->setTimeout(options.timeout);  // Gloo connects with this timeout as well
    return c10::make_intrusive<c10d::PrefixStore>(
        "tessera/attempt" + std::to_string(options.attempt), std::move(store));
  } catch (const std::exception& error) {
    const std::string doing = tcp.isServer ? "cannot serve the store of this run at "
                                           : "cannot reach the store of this run at ";
    throw CommError("rank " + std::to_string(options.rank) + " " + doing + where(options) + ": " +
                    backend_message(error));
  }
}

c10::intrusive_ptr<c10d::Store> reopen_store(WorldOptions options) {
  options.store_is_served = true;
  return open_store(options);
}

void join(c10d::Store& store, const WorldOptions& options) {
  const RollCall all = {"joined", options.rank, options.size};
  all.answer(store, "here");
  const std::vector<int64_t> missing = all.wait(store, options.timeout);
  if (missing.empty()) return;
  throw CommError(c10::str("rank ", options.rank, ": ", missing.size(), " of ", options.size,
                           " ranks did not join at ", where(options), " within ",
                           seconds(options.timeout), " s: missing are ranks ",
                           c10::Join(", ", missing)));
}

c10::intrusive_ptr<c10d::Backend> connect_group(const c10::intrusive_ptr<c10d::Store>& store,
                                                const WorldOptions& options,
                                                const std::string& name,
                                                const std::vector<int64_t>& ranks,
                                                const MakeBackend& make) {
  const auto own = c10::make_intrusive<c10d::PrefixStore>("group/" + c10::Join(",", ranks), store);
  const RollCall members = {"members",
                            std::find(ranks.begin(), ranks.end(), options.rank) - ranks.begin(),
                            static_cast<int64_t>(ranks.size())};
  std::string trouble;
  try {
    auto backend = connect_rank(backend_request(options, members, own), members, make);
    trouble = trouble_with_others(members, ranks, *own, options.timeout);
    if (trouble.empty()) return backend;
  } catch (const c10::DistError& error) {
    trouble = backend_message(error);
  } catch (const CommError& error) {
    trouble = error.what();
  }
  throw CommError(c10::str("rank ", options.rank, ": cannot connect group \"", name, "\" (ranks ",
                           c10::Join(", ", ranks), "): ", trouble));
}

}  // namespace tessera
