// One backend: its kernels, threads and BLAS.
#pragma once
#include <memory>

#include "blas.h"
#include "kernels.h"
#include "pool.h"

struct Instance {
  Context context; // first: kernels get its address and give it back
  const KernelTable* table;
  std::unique_ptr<Pool> pool;
  Blas blas;
  bool closed = false;

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

  void close() {
    closed = true;
    pool.reset();
  }
};
