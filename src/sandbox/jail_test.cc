#include "sandbox/jail.h"

#include <doctest/doctest.h>
#include "sandbox/testing/jail_harness.h"

namespace mayfly {
TEST_CASE("a probe runs in a full jail") {
  JailRun run = run_in_jail(full_plan(Profile::Template), [] { return std::string("hello"); });
  CHECK(run.error == "");
  CHECK(run.report == "hello");
  run = run_in_jail(full_plan(Profile::Template), [] { return std::string("hello"); },
                    {.instance = Profile::Instance});
  CHECK(run.error == "");
  CHECK(run.report == "hello");
  run = run_in_jail(full_plan(Profile::Publish), [] { return std::string("hello"); },
                    {.as = RunAs::OrdinaryUser});
  CHECK(run.error == "");
  CHECK(run.report == "hello");
}
}  // namespace mayfly
