// The template: loads the artifact (a model's session, a Python function's modules and state) and
// forks an instance for each Fork message until the server hangs up; it warms the artifact behind
// the first of them. It never sees a request.
//
// An environment template is one that has no artifact yet: it imports what Python functions of its
// environment import, says that it is ready, and waits until it is given a version, whose template
// it then is.
#pragma once

#include <cstdint>
#include <string_view>

#include "runner/onnx_runtime.h"
#include "sandbox/seccomp.h"
#include "sandbox/spawn_protocol.h"
#include "sandbox/spawner.h"

namespace mayfly {

struct TemplateTask {
  const OnnxRuntime& runtime;
  const SeccompFilters& filters;
  RuntimeKind kind = RuntimeKind::Onnx;
  SessionTime session = SessionTime::BeforeFork;
  std::string_view environment = {};  // WhenGiven: prepare_python's
  std::uint32_t threads = 1;
};

// Runs in the jail's worker, its control socket at kControlFd. Returns the exit code, in the
// template as in each instance.
int run_template(const TemplateTask& task);

}  // namespace mayfly
