#include "levels.h"

// GEMMOE_LEVELS lists what the build compiled, best first: X(amx) X(avx512bf16) ...
#define X(name) \
  namespace name { \
  extern const KernelTable table; \
  }
GEMMOE_LEVELS
#undef X

namespace {

#if defined(__x86_64__)
bool runs(const std::string& level) {
  __builtin_cpu_init();
  const bool avx2 = __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
  const bool avx512 = avx2 && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
                      __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
  if (level == "baseline") return true;
  if (level == "avx2") return avx2;
  if (level == "avx512" || level == "amxemulated") return avx512;
  unsigned a = 0, b = 0, c = 0, d = 0;
  asm volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(7), "c"(1));
  const bool bf16 = avx512 && (a & (1u << 5));
  if (level == "avx512bf16") return bf16;
  asm volatile("cpuid" : "=a"(a), "=b"(b), "=c"(c), "=d"(d) : "a"(7), "c"(0));
  return level == "amx" && bf16 && (d & (1u << 22)) && (d & (1u << 24)); // AMX-BF16 and AMX-TILE
}
#else
bool runs(const std::string&) { return true; }
#endif

/** What the build offers, best first; emulated tiles only when they are asked for. */
const KernelTable* const TABLES[] = {
#define X(name) &name::table,
    GEMMOE_LEVELS
#undef X
};

} // namespace

std::vector<std::string> compiledLevels() {
  std::vector<std::string> names;
  for (const KernelTable* table : TABLES) names.push_back(table->name);
  return names;
}

std::vector<const KernelTable*> usableLevels() {
  std::vector<const KernelTable*> usable;
  for (const KernelTable* table : TABLES) {
    if (runs(table->name) && table->prepare()) usable.push_back(table);
  }
  return usable;
}
