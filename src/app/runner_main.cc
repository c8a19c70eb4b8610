// mayfly-runner: what lives in the jail. The server starts it once; it opens ONNX Runtime, becomes
// the blank, and every template, instance and job is a fork of it. It leaves by _exit alone: static
// destructors belong to one process, and there are many.
#include <fmt/format.h>
#include <sys/socket.h>
#include <unistd.h>

#include <filesystem>
#include <string_view>

#include "core/reason.h"
#include "runner/blank.h"
#include "runner/onnx_runtime.h"
#include "runner/publish.h"
#include "sandbox/spawn_protocol.h"

namespace {

using namespace mayfly;

constexpr int kUsage = 2;

bool started_by_server() {
  int type = 0;
  socklen_t length = sizeof type;
  return ::getsockopt(kControlFd, SOL_SOCKET, SO_TYPE, &type, &length) == 0 &&
         type == SOCK_SEQPACKET;
}

Result<OnnxRuntime> open_runtime() {
  std::error_code error;
  const Path self = std::filesystem::read_symlink("/proc/self/exe", error);
  return OnnxRuntime::open(self.parent_path());
}

int print_version() {
  const auto runtime = open_runtime();
  if (!runtime) {
    fmt::print(stderr, "mayfly-runner: {}\n", runtime.error().message);
    return exit_code(runtime.error().code);
  }
  fmt::print("mayfly-runner, ONNX Runtime {}\n", runtime->version());
  return 0;
}

int serve() {
  const auto runtime = open_runtime();
  if (!runtime) {
    std::ignore = send_spawn(kControlFd, {.kind = SpawnKind::StartFailed}, runtime.error().message);
    return exit_code(runtime.error().code);
  }
  return run_blank({.runtime = *runtime, .job = &run_publish});
}

int run(int argc, char** argv) {
  const std::string_view word = argc == 2 ? argv[1] : "";
  if (word == "--version") return print_version();
  if (word == "--blank" && started_by_server()) return serve();
  fmt::print(
      stderr,
      "mayfly-runner does nothing by itself: `mayfly serve` starts it. Try `mayfly serve`, or "
      "`mayfly-runner --version`.\n");
  return kUsage;
}

}  // namespace

int main(int argc, char** argv) {
  const int code = run(argc, argv);
  std::fflush(nullptr);
  ::_exit(code);
}
