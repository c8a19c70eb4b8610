// The instance: waits at its doorbell, runs the request in the region, rings back, until the server
// hangs up or kills it. Its descriptors are the doorbell and the log (1 and 2).
#pragma once

#include "base/fd.h"
#include "base/file.h"
#include "runner/backend.h"

namespace mayfly {

// Serves until the server hangs up. Returns the exit code.
int serve_doorbell(int doorbell, Backend& backend);

// What forks share must not be alike in them: the C library's generator is seeded anew. ONNX
// Runtime seeds its random operators when their session is built.
void reseed();

}  // namespace mayfly
