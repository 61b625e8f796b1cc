// Stand-in for <gloo/transport/device.h>; gloo/context.h says why, and has all declarations.
// Internal to the build.
#pragma once

#include <gloo/context.h>
