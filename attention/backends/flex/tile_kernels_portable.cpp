#define FLEX_NAMESPACE portable
#define FLEX_LANES 4
#define FLEX_ROWS 4
#include "attention/backends/flex/tile_kernels_impl.h"
