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
 * How long a thread spins before it blocks, in microseconds: long while waits are short, as in a training step on an idle
 * machine, where each wake-up would cost 30 to 50; hardly at all once they are long, as between two runs or beside other processes.
 */
struct Patience {
  static constexpr int LEAST = 4, MOST = 64;
  /** Waits that spinning could have spanned; a little more than MOST, as a wake-up is part of a wait that blocked. */
  static constexpr int SHORT = 100;
  int microseconds = 16;
  void learn(long waited) {
    microseconds = waited <= SHORT ? (2 * microseconds < MOST ? 2 * microseconds : MOST)
                                   : (microseconds / 2 > LEAST ? microseconds / 2 : LEAST);
  }
};

/**
 * Runs a body once for each part, part p always on thread p (0 is the caller). A waiting thread spins for a bounded time, as the
 * next call of a training step mostly follows at once, then blocks: pure spinning starves whatever else runs, pure blocking
 * costs a wake-up for each call.
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
    /** Of its wait for the next call. */
    Patience patience;
  };

  void work(int index);

  std::vector<std::unique_ptr<Worker>> workers_;
  std::vector<std::vector<Buffer>> buffers_;
  void (*body_)(void*, int) = nullptr;
  void* argument_ = nullptr;
  /** Of the caller's wait for the last worker. */
  Patience patience_;
  std::mutex finishedMutex_;
  std::condition_variable finished_;
  std::atomic<bool> callerSleeps_{false};
  std::atomic<bool> stopping_{false};
};
