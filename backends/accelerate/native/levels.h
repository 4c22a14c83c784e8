// The instruction-set levels that were compiled in, and which of them this machine runs.
#pragma once
#include <string>
#include <vector>

#include "kernels.h"

/** Levels that the machine runs, best first. */
std::vector<const KernelTable*> usableLevels();
/** Names of all levels that were compiled in. */
std::vector<std::string> compiledLevels();
