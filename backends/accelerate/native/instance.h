// One backend: its kernels, threads and BLAS.
#pragma once
#include <algorithm>
#include <cstdlib>
#include <memory>
#include <vector>

#include "blas.h"
#include "kernels.h"
#include "pool.h"

struct Instance {
  Context context; // first: kernels get its address and give it back
  const KernelTable* table;
  std::unique_ptr<Pool> pool;
  Blas blas;
  bool closed = false;

  /** Weights whose packed copies are kept, and the number that each is let go by. */
  struct Held {
    HeldWeights weights;
    double id;
    std::unique_ptr<char, decltype(&std::free)> memory;
  };
  std::vector<Held> held;
  /** `weights` of all of them, for the kernels. */
  std::vector<HeldWeights> heldTable;
  double lastId = 0;

  Instance(const KernelTable* kernels, int threads, int precision, Blas bound, double blasFrom)
      : context{}, table(kernels), pool(std::make_unique<Pool>(threads)), blas(std::move(bound)) {
    context.threads = threads;
    context.precision = precision;
    context.sgemm = blas.sgemm;
    context.blasFrom = blasFrom;
    context.blasThreads = blas.ownThreads;
    context.run = [](Context* self, void (*body)(void*, int), void* argument, int parts) {
      reinterpret_cast<Instance*>(self)->pool->run(body, argument, parts);
    };
    context.scratch = [](Context* self, int part, int slot, std::size_t bytes) {
      return reinterpret_cast<Instance*>(self)->pool->scratch(part, slot, bytes);
    };
  }

  /** Packs w [groups,n,k]. 0 where nothing is gained, or a value cannot be packed, or there is no memory; otherwise a number. */
  double hold(const float* w, long groups, long n, long k) {
    const std::size_t bytes = (table->packedBytes(&context, n, k) + 63) / 64 * 64;
    if (bytes == 0 || groups == 0) return 0;
    void* data = nullptr;
    if (posix_memalign(&data, 64, bytes * static_cast<std::size_t>(groups)) != 0) return 0;
    std::unique_ptr<char, decltype(&std::free)> memory(static_cast<char*>(data), &std::free);
    for (long g = 0; g < groups; g++) {
      const Product product = {0, n, k, nullptr, 0, 1, w + g * n * k, 1, k, nullptr, n, 1, 0};
      if (!table->pack(&context, &product, memory.get() + bytes * static_cast<std::size_t>(g))) return 0;
    }
    const HeldWeights weights = {w, groups, n, k, context.precision, memory.get(), bytes};
    held.push_back({weights, ++lastId, std::move(memory)});
    listHeld();
    return lastId;
  }

  void release(double id) {
    held.erase(std::remove_if(held.begin(), held.end(), [=](const Held& one) { return one.id == id; }), held.end());
    listHeld();
  }

  void listHeld() {
    std::sort(held.begin(), held.end(), [](const Held& a, const Held& b) { return a.weights.base < b.weights.base; });
    heldTable.clear();
    for (const Held& one : held) heldTable.push_back(one.weights);
    context.held = heldTable.data();
    context.heldCount = static_cast<long>(heldTable.size());
  }

  void close() {
    closed = true;
    held.clear();
    listHeld();
    pool.reset();
  }
};
