#include "serving/function_logs.h"

#include <algorithm>
#include <string>

#include "base/testing/fake_clock.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

struct LogsRig {
  FakeClock clock;
  Loop loop{clock};
  FunctionLogs logs{loop};
  std::string text(std::string_view function) const {
    std::string all;
    for (const LogLine& line : logs.since(function, 0)) all += line.text + "\n";
    return all;
  }
};

}  // namespace

TEST_CASE("lines are kept by function, and what terminals obey is replaced") {
  LogsRig rig;
  rig.logs.add("f@1", "one\ntwo\x1b[2J\n");
  rig.logs.add("f@2",
               "na\xc3\xafve \xc2\x9b"
               "2J \xc2\xa9\n");
  rig.logs.add("g@1", "other\n");
  CHECK(rig.text("f") == "one\ntwo?[2J\nna\xc3\xafve ?2J \xc2\xa9\n");
  CHECK(rig.logs.since("f", 2).size() == 1);
  CHECK(rig.logs.since("f", 2).front().source == "f@2");
}

TEST_CASE("a follower of a deleted name sees what its successor prints") {
  LogsRig rig;
  for (int i = 0; i < 10; ++i) rig.logs.add("f@1", "before\n");
  const std::uint64_t last = rig.logs.since("f", 0).back().sequence;
  rig.logs.forget("f");
  CHECK(rig.text("f").empty());
  rig.logs.add("f@1", "after\n");
  REQUIRE(rig.logs.since("f", last).size() == 1);
  CHECK(rig.logs.since("f", last).front().text == "after");
}

TEST_CASE("a function keeps a mebibyte of its newest lines") {
  LogsRig rig;
  const std::string line(4000, 'x');
  for (int i = 0; i < 900; ++i) rig.logs.add("f@1", line);
  rig.logs.add("f@1", "last");
  const std::string kept = rig.text("f");
  CHECK(kept.size() < 1 << 20);
  CHECK(kept.size() > 900'000);
  CHECK(kept.ends_with("last\n"));
}

TEST_CASE("beyond the node's bytes the function that was silent longest loses its lines") {
  LogsRig rig;
  const std::string line(4000, 'x');
  const auto fill = [&](const std::string& label) {
    for (int i = 0; i < 250; ++i) rig.logs.add(label, line);
  };
  rig.logs.add("a@1", "an early line");
  rig.logs.add("z@1", "as early");
  for (int i = 0; i < 40; ++i) fill("f" + std::to_string(i) + "@1");
  rig.logs.add("a@1", "and a late one");
  for (int i = 40; i < 70; ++i) fill("f" + std::to_string(i) + "@1");
  CHECK(rig.text("z").empty());
  CHECK(rig.text("f0").empty());
  CHECK(rig.text("a") == "an early line\nand a late one\n");
  CHECK_FALSE(rig.text("f69").empty());
}
