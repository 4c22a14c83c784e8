#include "pool.h"

#include <chrono>
#include <cstdlib>
#include <new>

namespace {

using Clock = std::chrono::steady_clock;

/** Looks between two looks at the clock. */
constexpr int LOOKS = 32;

void relax() {
#if defined(__x86_64__)
  __builtin_ia32_pause();
#elif defined(__aarch64__)
  asm volatile("yield");
#endif
}

/** Waits until `ready()`: spinning while there is patience, then by `block()`. */
template <class Ready, class Block>
void await(Patience& patience, Ready ready, Block block) {
  if (ready()) return;
  const auto start = Clock::now();
  const auto waited = [&] { return (long)std::chrono::duration_cast<std::chrono::microseconds>(Clock::now() - start).count(); };
  bool isReady = false;
  do {
    for (int i = 0; i < LOOKS && !isReady; i++) {
      relax();
      isReady = ready();
    }
  } while (!isReady && waited() < patience.microseconds);
  if (!isReady) block();
  patience.learn(waited());
}

constexpr std::size_t ALIGNMENT = 64;

} // namespace

Pool::Pool(int threads) : buffers_(static_cast<std::size_t>(threads), std::vector<Buffer>(SLOT_COUNT)) {
  for (int i = 1; i < threads; i++) {
    workers_.push_back(std::make_unique<Worker>());
    workers_.back()->thread = std::thread([this, i] { work(i); });
  }
}

Pool::~Pool() {
  stopping_ = true;
  for (auto& worker : workers_) {
    {
      std::lock_guard<std::mutex> lock(worker->mutex);
      worker->wanted.fetch_add(1);
    }
    worker->wake.notify_one();
  }
  for (auto& worker : workers_) worker->thread.join();
  for (auto& slots : buffers_) {
    for (auto& buffer : slots) std::free(buffer.data);
  }
}

void Pool::work(int index) {
  Worker& me = *workers_[static_cast<std::size_t>(index) - 1];
  unsigned seen = 0;
  for (;;) {
    const auto called = [&] { return me.wanted.load() != seen; };
    await(me.patience, called, [&] {
      std::unique_lock<std::mutex> lock(me.mutex);
      me.sleeping = true;
      me.wake.wait(lock, called);
      me.sleeping = false;
    });
    if (stopping_) return;
    seen = me.wanted.load(std::memory_order_acquire);
    body_(argument_, index);
    me.done.store(seen);
    if (callerSleeps_) {
      std::lock_guard<std::mutex> lock(finishedMutex_);
      finished_.notify_one();
    }
  }
}

void Pool::run(void (*body)(void*, int), void* argument, int parts) {
  body_ = body;
  argument_ = argument;
  const std::size_t helpers = static_cast<std::size_t>(parts) - 1;
  for (std::size_t i = 0; i < helpers; i++) {
    Worker& worker = *workers_[i];
    worker.wanted.fetch_add(1);
    if (worker.sleeping) {
      // taking the lock makes sure that the worker is not between its last look and its wait
      { std::lock_guard<std::mutex> lock(worker.mutex); }
      worker.wake.notify_one();
    }
  }
  body(argument, 0);
  const auto finished = [&] {
    for (std::size_t i = 0; i < helpers; i++) {
      if (workers_[i]->done.load() != workers_[i]->wanted.load(std::memory_order_relaxed)) return false;
    }
    return true;
  };
  await(patience_, finished, [&] {
    std::unique_lock<std::mutex> lock(finishedMutex_);
    callerSleeps_ = true;
    finished_.wait(lock, finished);
    callerSleeps_ = false;
  });
}

void* Pool::scratch(int part, int slot, std::size_t bytes) {
  Buffer& buffer = buffers_[static_cast<std::size_t>(part)][static_cast<std::size_t>(slot)];
  if (buffer.bytes < bytes) {
    std::free(buffer.data);
    buffer.data = nullptr;
    buffer.bytes = 0;
    void* data = nullptr;
    const std::size_t rounded = (bytes + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    if (posix_memalign(&data, ALIGNMENT, rounded) != 0) std::abort(); // out of memory amid a kernel: nothing to go back to
    buffer.data = data;
    buffer.bytes = rounded;
  }
  return buffer.data;
}

std::size_t Pool::bytes() const {
  std::size_t total = 0;
  for (const auto& slots : buffers_) {
    for (const auto& buffer : slots) total += buffer.bytes;
  }
  return total;
}
