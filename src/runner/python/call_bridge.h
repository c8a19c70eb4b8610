// ctx.call(): from a function's Python to the instance's way out, and back.
#pragma once

#include "base/result.h"
#include "runner/call_port.h"
#include "runner/python/object.h"

namespace mayfly {

// A callable (kind, name, text, parts) → (kind, status, name, text, parts); parts are tuples (name,
// datatype, shape, bytes-like). The interpreter's lock is not held while it waits. The port
// outlives it.
Result<PyRef> make_call_bridge(CallPort& port);

}  // namespace mayfly
