// Stand-in for <gloo/rendezvous/store.h>; gloo/context.h says why, and has all declarations.
// Internal to the build.
#pragma once

#include <gloo/context.h>
