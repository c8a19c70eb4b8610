// The rival of template starts: a process that holds a warmed session is cloned, the clone answers
// one request over a socket pair and ends, and is reaped. No jail, no HTTP, no metering.
//
// A sample is the time from the clone call to the whole result at the parent. --workers N does the
// same in N processes at once, each with a session of its own; the wall time is that of all.
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "ort_model.h"
#include "tool.h"

namespace mayfly::bench {
namespace {

constexpr int kWarmRuns = 3;
// What the product starts its runner with; the C library reads it only at exec.
constexpr const char* kTunables = "glibc.malloc.hugetlb=1";

void exec_with_tunables(char** argv) {
  const char* now = std::getenv("GLIBC_TUNABLES");
  if (now != nullptr && std::strcmp(now, kTunables) == 0) return;
  ::setenv("GLIBC_TUNABLES", kTunables, 1);
  ::setenv("ORT_DISABLE_TELEMETRY", "1", 1);
  ::execv("/proc/self/exe", argv);
  require_call(false, "exec");
}

class Template {
 public:
  explicit Template(const Arguments& arguments) : model_(OrtArguments(arguments)) {
    model_.load();
    for (int i = 0; i < kWarmRuns; ++i) {
      result_.clear();
      model_.run_into(result_);
    }
    for (const auto& input : model_.inputs()) {
      request_.insert(request_.end(), input.bytes.begin(), input.bytes.end());
    }
  }

  double start_one() {
    std::array<int, 2> ends{};
    require_call(::socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends.data()) == 0,
                 "socketpair");
    const double begin = now_us();
    const pid_t child = ::_Fork();
    require_call(child >= 0, "fork");
    if (child == 0) answer(ends[1]);
    ::close(ends[1]);
    write_exactly(ends[0], request_);
    require(read_exactly(ends[0], result_), "the clone ended without an answer");
    const double took = now_us() - begin;
    ::close(ends[0]);
    int status = 0;
    require_call(::waitpid(child, &status, 0) == child && status == 0, "waitpid");
    return took;
  }

 private:
  [[noreturn]] void answer(int socket) {
    for (auto& input : model_.inputs()) {
      if (!read_exactly(socket, input.bytes)) ::_exit(1);
    }
    std::vector<std::byte> outputs;
    model_.run_into(outputs);
    write_exactly(socket, outputs);
    ::_exit(0);
  }

  OrtModel model_;
  std::vector<std::byte> request_;
  std::vector<std::byte> result_;
};

struct WorkerTimes {
  double begin_us;
  double end_us;
};

// Waits for the starting signal (the end of `go`), so that all workers measure at the same time.
[[noreturn]] void work(const Arguments& arguments, int ready, int go, int out) {
  Template self(arguments);
  std::byte signal{};
  write_exactly(ready, std::span(&signal, 1));
  read_exactly(go, std::span(&signal, 1));
  std::vector<double> samples(arguments.number("count", 1));
  WorkerTimes times{.begin_us = now_us(), .end_us = 0};
  for (double& sample : samples) sample = self.start_one();
  times.end_us = now_us();
  write_exactly(out, std::as_bytes(std::span(&times, 1)));
  write_exactly(out, std::as_bytes(std::span(samples)));
  ::_exit(0);
}

using Pipe = std::array<int, 2>;

Pipe make_pipe() {
  Pipe ends{};
  require_call(::pipe2(ends.data(), O_CLOEXEC) == 0, "pipe");
  return ends;
}

Report measure(const Arguments& arguments) {
  const std::size_t workers = arguments.number("workers", 1);
  const Pipe ready = make_pipe();
  const Pipe go = make_pipe();
  std::vector<Pipe> outs;
  for (std::size_t i = 0; i < workers; ++i) {
    outs.push_back(make_pipe());
    const pid_t worker = ::fork();
    require_call(worker >= 0, "fork");
    if (worker == 0) {
      ::close(go[1]);
      work(arguments, ready[1], go[0], outs.back()[1]);
    }
    ::close(outs.back()[1]);
  }
  ::close(ready[1]);
  std::vector<std::byte> signals(workers);
  require(read_exactly(ready[0], signals), "a worker failed");
  ::close(go[1]);

  Report report;
  std::vector<double> samples(arguments.number("count", 1));
  double begin = now_us();
  double end = 0;
  for (const Pipe& out : outs) {
    WorkerTimes times{};
    require(read_exactly(out[0], std::as_writable_bytes(std::span(&times, 1))) &&
                read_exactly(out[0], std::as_writable_bytes(std::span(samples))),
            "a worker failed");
    begin = std::min(begin, times.begin_us);
    end = std::max(end, times.end_us);
    report.samples_us.insert(report.samples_us.end(), samples.begin(), samples.end());
  }
  while (::wait(nullptr) > 0) {
  }
  report.wall_s = (end - begin) / 1e6;
  return report;
}

}  // namespace
}  // namespace mayfly::bench

int main(int argc, char** argv) {
  using namespace mayfly::bench;
  exec_with_tunables(argv);
  print(measure(Arguments(argc, argv, 1)));
  ::_exit(0);
}
