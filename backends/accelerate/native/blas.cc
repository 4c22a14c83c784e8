#include "blas.h"

#ifdef __APPLE__

#define ACCELERATE_NEW_LAPACK
#include <Accelerate/Accelerate.h>

namespace {

void accelerateSgemm(int order, int transA, int transB, int m, int n, int k, float alpha, const float* a, int lda, const float* b,
                     int ldb, float beta, float* c, int ldc) {
  cblas_sgemm(static_cast<CBLAS_ORDER>(order), static_cast<CBLAS_TRANSPOSE>(transA), static_cast<CBLAS_TRANSPOSE>(transB), m, n, k,
              alpha, a, lda, b, ldb, beta, c, ldc);
}

} // namespace

bool bindApple(Blas& blas) {
  blas.sgemm = accelerateSgemm;
  blas.vendor = "Apple Accelerate";
  blas.version = "system";
  blas.path = "/System/Library/Frameworks/Accelerate.framework";
  blas.ownThreads = true;
  return true;
}

#endif

#include <dlfcn.h>

#include <cstdint>
#include <cstring>

namespace {

template <class Function>
Function symbol(void* library, const char* name) {
  return reinterpret_cast<Function>(dlsym(library, name));
}

/** Whether integers are 64 bits wide: a count whose low half is 3 and whole is negative is 3 to one build, nothing to the other. */
bool takesLongIntegers(void* library) {
  const auto largest = symbol<std::size_t (*)(std::int64_t, const float*, std::int64_t)>(library, "cblas_isamax");
  const float values[] = {1, 2, 3};
  return largest && largest(-(std::int64_t{1} << 32) + 3, values, 1) != 2;
}

void (*blisSetThreads)(std::int64_t) = nullptr;
void setBlisThreads(int count) { blisSetThreads(count); }

void describe(void* library, Blas& blas) {
  if (const auto config = symbol<const char* (*)()>(library, "openblas_get_config")) {
    blas.vendor = "OpenBLAS";
    const char* version = std::strstr(config(), "OpenBLAS ");
    blas.version = version ? std::string(version + 9, std::strcspn(version + 9, " ")) : "unknown";
    blas.setThreads = symbol<void (*)(int)>(library, "openblas_set_num_threads");
  } else if (const auto mklVersion = symbol<void (*)(char*, int)>(library, "MKL_Get_Version_String")) {
    char text[256] = {};
    mklVersion(text, sizeof text - 1);
    blas.vendor = "Intel MKL";
    blas.version = text;
    blas.setThreads = symbol<void (*)(int)>(library, "MKL_Set_Num_Threads");
  } else if (const auto blisVersion = symbol<const char* (*)()>(library, "bli_info_get_version_str")) {
    blas.vendor = "BLIS";
    blas.version = blisVersion();
    blisSetThreads = symbol<void (*)(std::int64_t)>(library, "bli_thread_set_num_threads");
    if (blisSetThreads) blas.setThreads = setBlisThreads;
  } else {
    blas.vendor = "unknown";
    blas.version = "unknown";
  }
}

/** Empty where the library serves, else what is wrong with it. */
std::string tryLibrary(const std::string& path, Blas& blas) {
  void* library = dlopen(path.c_str(), RTLD_NOW | RTLD_LOCAL);
  if (!library) return std::string("cannot be loaded: ") + dlerror();
  const auto sgemm = symbol<SgemmFunction>(library, "cblas_sgemm");
  if (!sgemm) {
    dlclose(library);
    return "has no cblas_sgemm";
  }
  if (const auto layer = symbol<int (*)(int)>(library, "MKL_Set_Interface_Layer")) layer(0); // 32-bit integers
  if (takesLongIntegers(library)) return "takes 64-bit integers (ILP64)";
  describe(library, blas);
  blas.sgemm = sgemm;
  blas.path = path;
  // its threads would stand beside ours: each of ours calls it for its own part
  if (blas.setThreads) blas.setThreads(1);
  return "";
}

} // namespace

bool bindBlas(const std::vector<std::string>& candidates, Blas& blas, std::vector<std::string>& tried) {
  for (const auto& path : candidates) {
#ifdef __APPLE__
    if (path == "accelerate") return bindApple(blas);
#endif
    const std::string problem = tryLibrary(path, blas);
    if (problem.empty()) return true;
    tried.push_back(path + " " + problem);
  }
  return false;
}
