// The plain C++ rival.
//
//   bare_ort first    N times: exec → environment → session → first result, each in a new process
//   bare_ort loop     N inferences in a row, after three that do not count
//   bare_ort callers  --callers threads share one session; N inferences each
//
// `first` is its own launcher: it takes the time just before posix_spawn, so that nobody's
// interpreter counts, and hands it down as --begin.
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

#include <array>
#include <cstdio>
#include <cstdlib>
#include <string>
#include <thread>
#include <vector>

#include "ort_model.h"
#include "tool.h"

namespace mayfly::bench {
namespace {

constexpr int kWarmRuns = 3;
constexpr const char* kSelf = "/proc/self/exe";

struct FirstTimes {
  double environment_us;
  double session_us;
  double result_us;
};

// The new process. Its figures leave through standard output, a pipe.
[[noreturn]] void first_child(const Arguments& arguments) {
  const double begin = std::strtod(arguments.text("begin").c_str(), nullptr);
  OrtModel model{OrtArguments(arguments)};
  FirstTimes times{.environment_us = now_us() - begin, .session_us = 0, .result_us = 0};
  model.load();
  times.session_us = now_us() - begin;
  model.run();
  times.result_us = now_us() - begin;
  write_exactly(STDOUT_FILENO, std::as_bytes(std::span(&times, 1)));
  ::_exit(0);
}

FirstTimes spawn_first(std::vector<char*> command) {
  std::array<int, 2> ends{};
  require_call(::pipe(ends.data()) == 0, "pipe");
  posix_spawn_file_actions_t actions;
  ::posix_spawn_file_actions_init(&actions);
  ::posix_spawn_file_actions_adddup2(&actions, ends[1], STDOUT_FILENO);
  std::array<char, 64> begin{};
  std::snprintf(begin.data(), begin.size(), "%.3f", now_us());
  std::string flag = "--begin";
  command.insert(command.end(), {flag.data(), begin.data(), nullptr});
  pid_t child = 0;
  const int failed = ::posix_spawn(&child, kSelf, &actions, nullptr, command.data(), environ);
  require(failed == 0, "posix_spawn failed");
  ::close(ends[1]);
  FirstTimes times{};
  const bool answered = read_exactly(ends[0], std::as_writable_bytes(std::span(&times, 1)));
  ::close(ends[0]);
  int status = 0;
  ::waitpid(child, &status, 0);
  ::posix_spawn_file_actions_destroy(&actions);
  require(answered && status == 0, "the new process failed");
  return times;
}

Report first(const Arguments& arguments, std::span<char*> command) {
  ::setenv("ORT_DISABLE_TELEMETRY", "1", 1);
  std::vector<char*> child(command.begin(), command.end());
  std::string mode = "first-child";
  child.at(1) = mode.data();
  Report report;
  const std::size_t count = arguments.number("count", 1);
  const double begin = now_us();
  for (std::size_t i = 0; i < count; ++i) {
    const FirstTimes times = spawn_first(child);
    report.samples_us.push_back(times.result_us);
    report.more["environment_us"] = times.environment_us;  // of the last one
    report.more["session_us"] = times.session_us;
  }
  report.wall_s = (now_us() - begin) / 1e6;
  return report;
}

std::vector<double> timed_runs(const OrtModel& model, std::size_t count) {
  std::vector<double> samples(count);
  for (double& sample : samples) {
    const double begin = now_us();
    model.run();
    sample = now_us() - begin;
  }
  return samples;
}

// The wall time is that of all callers together, from the first's start to the last's end.
Report loop(const Arguments& arguments) {
  OrtModel model{OrtArguments(arguments)};
  model.load();
  for (int i = 0; i < kWarmRuns; ++i) model.run();
  const std::size_t count = arguments.number("count", 1);
  std::vector<std::vector<double>> samples(arguments.number("callers", 1));
  const double begin = now_us();
  {
    std::vector<std::jthread> callers;
    for (std::size_t i = 1; i < samples.size(); ++i) {
      callers.emplace_back([&, i] { samples[i] = timed_runs(model, count); });
    }
    samples[0] = timed_runs(model, count);
  }
  Report report{.samples_us = {}, .wall_s = (now_us() - begin) / 1e6, .more = {}};
  for (const auto& part : samples) {
    report.samples_us.insert(report.samples_us.end(), part.begin(), part.end());
  }
  return report;
}

}  // namespace
}  // namespace mayfly::bench

int main(int argc, char** argv) {
  using namespace mayfly::bench;
  require(argc > 1, "first, loop or callers?");
  const std::string_view mode = argv[1];
  const Arguments arguments(argc, argv, 2);
  if (mode == "first-child") first_child(arguments);
  require(mode == "first" || mode == "loop" || mode == "callers", "first, loop or callers?");
  const std::span command(argv, static_cast<std::size_t>(argc));
  print(mode == "first" ? first(arguments, command) : loop(arguments));
  ::_exit(0);
}
