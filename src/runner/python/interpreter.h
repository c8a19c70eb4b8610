// The process's one interpreter, with nothing of the host in its configuration: no environment, no
// site packages, no signal handlers. Its paths are the jail's mounts.
#pragma once

#include <cstdint>
#include <map>
#include <string>

#include "base/result.h"
#include "runner/python/object.h"

namespace mayfly {

struct InterpreterOptions {
  std::map<std::string, std::string> env;  // of the function
  std::uint32_t threads = 1;               // of numeric libraries
  bool has_children = false;  // it may start interpreters, which find what this one finds
};

// Once in a process. Afterwards this thread holds the interpreter's lock.
Status start_interpreter(const InterpreterOptions& options);

// The exception that is set, as text; clears it.
std::string take_exception();

}  // namespace mayfly
