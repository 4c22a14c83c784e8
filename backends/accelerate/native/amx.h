// AMX tiles: eight registers of 16 rows by 64 bytes. With GEMMOE_EMULATE_AMX they are arrays, so that what is written for tiles
// can be tested on any machine with AVX-512.
#pragma once
#include "simd.h"

#ifdef __linux__
#include <sys/syscall.h>
#include <unistd.h>
#endif

namespace LEVEL {

#ifdef GEMMOE_EMULATE_AMX

struct EmulatedTile {
  uint32_t words[16][16];
};
static thread_local EmulatedTile emulatedTiles[8];

INLINE float bf16Half(uint32_t word, int high) {
  uint32_t bits = high ? word & 0xffff0000u : word << 16;
  float x;
  memcpy(&x, &bits, 4);
  return x;
}
INLINE void tileConfigure() {}
INLINE void tileRelease() {}
INLINE void tileZero(int t) { memset(&emulatedTiles[t], 0, sizeof(EmulatedTile)); }
INLINE void tileLoad(int t, const void* base, long stride) {
  for (int r = 0; r < 16; r++) memcpy(emulatedTiles[t].words[r], (const char*)base + r * stride, 64);
}
INLINE void tileStore(int t, void* base, long stride) {
  for (int r = 0; r < 16; r++) memcpy((char*)base + r * stride, emulatedTiles[t].words[r], 64);
}
static void tileMultiply(int c, int a, int b) {
  for (int i = 0; i < 16; i++) {
    float sums[16];
    memcpy(sums, emulatedTiles[c].words[i], 64);
    for (int p = 0; p < 16; p++) {
      const uint32_t x = emulatedTiles[a].words[i][p];
      for (int j = 0; j < 16; j++) {
        const uint32_t y = emulatedTiles[b].words[p][j];
        sums[j] += bf16Half(x, 0) * bf16Half(y, 0);
        sums[j] += bf16Half(x, 1) * bf16Half(y, 1);
      }
    }
    memcpy(emulatedTiles[c].words[i], sums, 64);
  }
}
static int tilesGranted() { return 1; }

#else

struct alignas(64) TileConfig {
  uint8_t palette = 1, startRow = 0, reserved[14] = {};
  uint16_t bytes[16] = {64, 64, 64, 64, 64, 64, 64, 64};
  uint8_t rows[16] = {16, 16, 16, 16, 16, 16, 16, 16};
};
static_assert(sizeof(TileConfig) == 64, "the configuration of the tiles is 64 bytes");

INLINE void tileConfigure() {
  static constexpr TileConfig config{};
  _tile_loadconfig(&config);
}
INLINE void tileRelease() { _tile_release(); }
// the number of a tile is a part of the instruction
#define tileZero(t) _tile_zero(t)
#define tileLoad(t, base, stride) _tile_loadd(t, base, stride)
#define tileStore(t, base, stride) _tile_stored(t, base, stride)
#define tileMultiply(c, a, b) _tile_dpbf16ps(c, a, b)

#ifdef __linux__
/** Asks Linux for the tiles' state, which a process has to do once before it touches them. */
static int tilesGranted() {
  const long ARCH_REQ_XCOMP_PERM = 0x1023, XFEATURE_XTILEDATA = 18;
  return syscall(SYS_arch_prctl, ARCH_REQ_XCOMP_PERM, XFEATURE_XTILEDATA) == 0;
}
#else
static int tilesGranted() { return 0; }
#endif

#endif

} // namespace LEVEL
