// The way out of an instance for a function that calls another one.
#pragma once

#include "base/result.h"
#include "sandbox/call_message.h"

namespace mayfly {

class CallPort {
 public:
  virtual ~CallPort() = default;
  // Hands it over and waits. The answer is valid until the next one. One call at a time, while a
  // request runs, on any thread. An error: the server is gone.
  virtual Result<CallMessage> call(const CallMessage& message) = 0;
};

}  // namespace mayfly
