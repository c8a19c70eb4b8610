#include "app/memory_watch.h"

#include <algorithm>
#include <charconv>
#include <chrono>
#include <cstdint>
#include <utility>

#include "base/log.h"
#include "core/units.h"

namespace mayfly {
namespace {

constexpr Duration kInterval = std::chrono::seconds(1);
constexpr std::uint64_t kPressure = 20;  // the part of the memory that should be available

// "MemAvailable:    1234 kB"
Bytes field(std::string_view meminfo, std::string_view name) {
  const std::size_t at = meminfo.find(name);
  if (at == std::string_view::npos) return {};
  std::string_view rest = meminfo.substr(at + name.size());
  rest.remove_prefix(std::min(rest.find_first_not_of(' '), rest.size()));
  std::uint64_t kibibytes = 0;
  (void)std::from_chars(rest.data(), rest.data() + rest.size(), kibibytes);
  return kib(kibibytes);
}

}  // namespace

Bytes memory_shortage(std::string_view meminfo) {
  const Bytes total = field(meminfo, "MemTotal:");
  const Bytes available = field(meminfo, "MemAvailable:");
  const Bytes floor{total.count / kPressure};
  if (available.count == 0 || available >= floor) return {};
  return floor + floor - available;
}

MemoryWatch::MemoryWatch(Loop& loop, Dispatcher& dispatcher, Source source)
    : dispatcher_(dispatcher), source_(std::move(source)), timer_(loop, [this] { look(); }) {
  timer_.arm_in(kInterval);
}

void MemoryWatch::look() {
  timer_.arm_in(kInterval);
  if (!dispatcher_.holds_memory()) return;
  const Result<std::string> meminfo = source_();
  const Bytes wanted = meminfo ? memory_shortage(*meminfo) : Bytes{};
  if (wanted.count == 0) return;
  const Bytes freed = dispatcher_.relieve(wanted);
  if (freed.count == 0) return;
  LOG(warn, "the machine is short of memory", {"wanted", to_string(wanted)},
      {"ended_processes_of", to_string(freed)});
}

}  // namespace mayfly
