// The blank: a process with the runtime loaded and no model. The server starts it once and asks it
// for jails; it never sees a byte of a model, a request or a function.
//
//   blank ── clone_jail ──► jail init (pid 1 of the jail) ── fork_worker ──► template, or a job
#pragma once

#include <functional>
#include <string_view>

#include "runner/onnx_runtime.h"
#include "runner/template.h"

namespace mayfly {

// The entry point of a job in its jail: the runtime, the control socket, the job's request. Returns
// the exit code.
using JobMain = int (*)(const OnnxRuntime& runtime, int control_fd, std::string_view request);

// The template's. Returns the exit code, in the template as in each instance.
using TemplateMain = int (*)(const TemplateTask& task);

struct BlankTask {
  const OnnxRuntime& runtime;
  JobMain job = nullptr;
  TemplateMain serve_template = &run_template;
};

// Readies what every fork inherits, says so, and serves until the server hangs up. Returns the exit
// code, in the blank as in every process that comes of it.
int run_blank(const BlankTask& task);

}  // namespace mayfly
