#include "parallel/comm/heart.h"

namespace tessera {

Heart::Heart(c10::intrusive_ptr<c10d::Store> store, int64_t rank,
             std::chrono::milliseconds interval)
    : store_(std::move(store)), key_(key(rank)), interval_(interval) {
  write();
  thread_ = std::thread([this] { run(); });
}

Heart::~Heart() {
  {
    const std::lock_guard<std::mutex> lock(mutex_);
    is_stopping_ = true;
  }
  changed_.notify_all();
  thread_.join();
}

void Heart::run() {
  std::unique_lock<std::mutex> lock(mutex_);
  while (!changed_.wait_for(lock, interval_, [this] { return is_stopping_; }) && has_store_) {
    ++sign_.num_beats;
    write();
    changed_.notify_all();
  }
}

// Called with the mutex held, or before there is a thread. A beat cannot throw: whoever waits for
// the next one hears that the store is gone.
void Heart::write() {
  try {
    store_->set(key_, to_text(sign_));
  } catch (const std::exception&) {
    has_store_ = false;
  }
}

void Heart::say_failed() {
  const std::lock_guard<std::mutex> lock(mutex_);
  sign_.has_failed = true;
  write();
}

void Heart::say_left() {
  const std::lock_guard<std::mutex> lock(mutex_);
  sign_.has_left = true;
  write();
}

bool Heart::wait_for_beat() {
  std::unique_lock<std::mutex> lock(mutex_);
  const int64_t before = sign_.num_beats;
  changed_.wait(lock, [&] { return sign_.num_beats > before || !has_store_ || is_stopping_; });
  return has_store_;
}

std::vector<LifeSign> read_life_signs(c10d::Store& store, int64_t num_ranks,
                                      const std::vector<int64_t>& ranks) {
  std::vector<std::string> keys;
  for (const int64_t rank : ranks) keys.push_back(Heart::key(rank));
  const std::vector<std::vector<uint8_t>> texts = store.multiGet(keys);
  std::vector<LifeSign> signs(static_cast<size_t>(num_ranks), LifeSign{.has_left = true});
  for (size_t i = 0; i < ranks.size(); ++i) {
    signs[static_cast<size_t>(ranks[i])] = life_sign_of({texts[i].begin(), texts[i].end()});
  }
  return signs;
}

}  // namespace tessera
