#include "app/memory_watch.h"

#include <string>

#include "dispatch/testing/test_node.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

std::string meminfo(int available_mib) {
  return "MemTotal:       16777216 kB\nMemFree:          100000 kB\nMemAvailable:   " +
         std::to_string(available_mib * 1024) + " kB\nBuffers:           64 kB\n";
}

}  // namespace

TEST_CASE("less than a twentieth of the memory is a shortage of what makes it a tenth") {
  CHECK(memory_shortage(meminfo(16'000)) == Bytes{});
  CHECK(memory_shortage(meminfo(820)) == Bytes{});
  CHECK(memory_shortage(meminfo(319)).count >= mib(1300).count);
  CHECK(memory_shortage(meminfo(319)).count < mib(1320).count);
  CHECK(memory_shortage("") == Bytes{});
  CHECK(memory_shortage("MemTotal: x kB\nMemAvailable:") == Bytes{});
}

TEST_CASE("idle processes end when the machine runs out of memory, and the busy stay") {
  TestNode node;
  std::string text = meminfo(8'000);
  MemoryWatch watch(node.loop, node.dispatcher, [&]() -> Result<std::string> { return text; });
  const auto idle = TestNode::share(node.runtime(1));
  const auto busy = TestNode::share(node.runtime(2));
  node.spawner.script("f2@1").fate = Fate::Hangs;
  CHECK(node.predict(idle)->ok());
  const auto running = node.predict(busy);
  node.run_for(std::chrono::seconds(3), std::chrono::milliseconds(100));
  CHECK(node.version("f1@1")->idle == 1);
  text = meminfo(500);
  node.run_for(std::chrono::seconds(2), std::chrono::milliseconds(100));
  CHECK_FALSE(node.version("f1@1"));
  CHECK(node.decided(Action::EndInstance, Why::MemoryPressure) == 1);
  CHECK(node.version("f2@1")->running == 1);
  CHECK_FALSE(running->done());
}
