#define FLEX_NAMESPACE avx2
#define FLEX_LANES 8
#define FLEX_ROWS 6
#include "attention/backends/flex/tile_kernels_impl.h"
