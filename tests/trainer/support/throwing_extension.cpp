// An extension that cannot be used; compiled twice, once for another version of Tessera.
#include <stdexcept>

#include "models/extension.h"

TESSERA_EXTENSION(/*registries*/) { throw std::runtime_error("not on a Sunday"); }
