// Stand-in for <gloo/common/error.h>; gloo/context.h says why, and has all declarations. Internal
// to the build.
#pragma once

#include <gloo/context.h>
