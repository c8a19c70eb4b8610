// What the programs of the benchmarks share: arguments, a clock, and one line of JSON as the
// result. They are tools that run.py drives: whatever goes wrong ends them with one line on stderr
// and status 1, and run.py reports that the bench could not run.
#pragma once

#include <cstddef>
#include <cstdint>
#include <map>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace mayfly::bench {

// Ends the program unless `holds`.
void require(bool holds, std::string_view what);
// The same, with the text of errno.
void require_call(bool succeeded, std::string_view what);

// CLOCK_MONOTONIC in microseconds: one clock for every process of the machine.
double now_us();

// "--name value" pairs; a name may stand several times. Anything else is an error.
class Arguments {
 public:
  Arguments(int argc, char** argv, int first);
  std::string text(const std::string& name, const std::string& fallback) const;
  std::string text(const std::string& name) const;  // required
  std::size_t number(const std::string& name, std::size_t fallback) const;
  bool has(const std::string& name) const { return values_.contains(name); }
  std::vector<std::string> all(const std::string& name) const;

 private:
  std::map<std::string, std::vector<std::string>> values_;
};

std::vector<std::byte> read_whole(const std::string& path);
void write_exactly(int fd, std::span<const std::byte> bytes);
// False when the peer closed before `bytes` were full.
bool read_exactly(int fd, std::span<std::byte> bytes);

// {"us": [12.3, …], "wall_s": 1.5, "name": 7, …}
struct Report {
  std::vector<double> samples_us;
  double wall_s = 0;
  std::map<std::string, double> more;
};
void print(const Report& report);

}  // namespace mayfly::bench
