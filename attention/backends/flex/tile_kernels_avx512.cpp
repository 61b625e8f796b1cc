#define FLEX_NAMESPACE avx512
#define FLEX_LANES 16
#define FLEX_ROWS 12
#include "attention/backends/flex/tile_kernels_impl.h"
