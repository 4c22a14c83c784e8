// The addon's threads and their scratch memory.
#pragma once
#include <atomic>
#include <condition_variable>
#include <cstddef>
#include <memory>
#include <mutex>
#include <thread>
#include <vector>

#include "kernels.h"

/**
 * Runs a body once for each part, part p always on thread p (0 is the caller). A waiting thread spins for a few microseconds,
 * as the next call of a training step mostly follows at once, then blocks: pure spinning starves whatever else runs, pure
 * blocking costs a wake-up for each call.
 */
class Pool {
 public:
  explicit Pool(int threads);
  ~Pool();
  Pool(const Pool&) = delete;
  Pool& operator=(const Pool&) = delete;

  int threads() const { return static_cast<int>(workers_.size()) + 1; }
  void run(void (*body)(void*, int), void* argument, int parts);
  void* scratch(int part, int slot, std::size_t bytes);
  /** Bytes of scratch memory held. */
  std::size_t bytes() const;

 private:
  struct Buffer {
    void* data = nullptr;
    std::size_t bytes = 0;
  };
  struct Worker {
    std::thread thread;
    /** Number of the last call that this worker has to take part in; written by the caller. */
    std::atomic<unsigned> wanted{0};
    std::atomic<unsigned> done{0};
    std::mutex mutex;
    std::condition_variable wake;
    /** Whether the worker blocks, or is about to. */
    std::atomic<bool> sleeping{false};
  };

  void work(int index);

  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::vector<Buffer>> buffers_;
  void (*body_)(void*, int) = nullptr;
  void* argument_ = nullptr;
  std::mutex finishedMutex_;
  std::condition_variable finished_;
  std::atomic<bool> callerSleeps_{false};
  std::atomic<bool> stopping_{false};
};
