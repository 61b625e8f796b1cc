// Stand-in for <gloo/algorithm.h>; gloo/context.h says why, and has all declarations. Internal to
// the build.
#pragma once

#include <gloo/context.h>
