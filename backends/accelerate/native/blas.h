// The BLAS of the machine: Apple's Accelerate, or a CBLAS that is found and opened while the program runs.
#pragma once
#include <string>
#include <vector>

#include "kernels.h"

struct Blas {
  SgemmFunction sgemm = nullptr;
  std::string vendor, version, path;
  /** The library's products run on threads that cannot be told how many to be. */
  bool ownThreads = false;
  void (*setThreads)(int) = nullptr;
};

/**
 * Binds the first of `candidates` (paths or file names) that is a CBLAS with 32-bit integers. Returns whether there was one; what
 * was wrong with each other one is added to `tried`.
 */
bool bindBlas(const std::vector<std::string>& candidates, Blas& blas, std::vector<std::string>& tried);
