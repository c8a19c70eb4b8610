#include "tool.h"

#include <unistd.h>

#include <cerrno>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <fstream>
#include <iterator>

namespace mayfly::bench {

void require(bool holds, std::string_view what) {
  if (holds) return;
  std::fprintf(stderr, "%s: %.*s\n", program_invocation_short_name, static_cast<int>(what.size()),
               what.data());
  std::fflush(nullptr);
  ::_exit(1);  // threads and half-made sessions are not worth tearing down
}

void require_call(bool succeeded, std::string_view what) {
  if (succeeded) return;
  require(false, std::string(what) + ": " + std::strerror(errno));
}

double now_us() {
  timespec now{};
  ::clock_gettime(CLOCK_MONOTONIC, &now);
  return static_cast<double>(now.tv_sec) * 1e6 + static_cast<double>(now.tv_nsec) / 1e3;
}

Arguments::Arguments(int argc, char** argv, int first) {
  for (int i = first; i < argc; i += 2) {
    const std::string_view name = argv[i];
    require(name.starts_with("--") && i + 1 < argc, std::string(name) + ": expected --name value");
    values_[std::string(name.substr(2))].emplace_back(argv[i + 1]);
  }
}

std::string Arguments::text(const std::string& name, const std::string& fallback) const {
  const auto found = values_.find(name);
  return found == values_.end() ? fallback : found->second.back();
}

std::string Arguments::text(const std::string& name) const {
  require(has(name), "--" + name + " is missing");
  return text(name, {});
}

std::size_t Arguments::number(const std::string& name, std::size_t fallback) const {
  if (!has(name)) return fallback;
  const std::string value = text(name);
  char* end = nullptr;
  const unsigned long long parsed = std::strtoull(value.c_str(), &end, 10);
  require(!value.empty() && *end == '\0', "--" + name + ": not a whole number");
  return parsed;
}

std::vector<std::string> Arguments::all(const std::string& name) const {
  const auto found = values_.find(name);
  return found == values_.end() ? std::vector<std::string>{} : found->second;
}

std::vector<std::byte> read_whole(const std::string& path) {
  std::ifstream file(path, std::ios::binary);
  require(file.is_open(), path + " cannot be read");
  const std::string text{std::istreambuf_iterator<char>(file), std::istreambuf_iterator<char>()};
  const auto bytes = std::as_bytes(std::span(text));
  return {bytes.begin(), bytes.end()};
}

void write_exactly(int fd, std::span<const std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t written = ::write(fd, bytes.data(), bytes.size());
    if (written < 0 && errno == EINTR) continue;
    require_call(written > 0, "write");
    bytes = bytes.subspan(static_cast<std::size_t>(written));
  }
}

bool read_exactly(int fd, std::span<std::byte> bytes) {
  while (!bytes.empty()) {
    const ssize_t got = ::read(fd, bytes.data(), bytes.size());
    if (got < 0 && errno == EINTR) continue;
    require_call(got >= 0, "read");
    if (got == 0) return false;
    bytes = bytes.subspan(static_cast<std::size_t>(got));
  }
  return true;
}

void print(const Report& report) {
  std::printf("{\"wall_s\": %.6f, \"us\": [", report.wall_s);
  for (std::size_t i = 0; i < report.samples_us.size(); ++i) {
    std::printf("%s%.2f", i == 0 ? "" : ",", report.samples_us[i]);
  }
  std::printf("]");
  for (const auto& [name, value] : report.more) std::printf(", \"%s\": %.9g", name.c_str(), value);
  std::printf("}\n");
  std::fflush(stdout);
}

}  // namespace mayfly::bench
