// What is stored of a rollout and what people write of one: texts that parse are values which
// survive a round trip, merge, and can be judged.
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/check.h"
#include "rollout/judge.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  using namespace mayfly::rollout;
  const std::string_view text(reinterpret_cast<const char*>(data), size);
  if (const auto plan = parse_plan(text)) {
    const auto again = parse_plan(to_json(*plan));
    CHECK(again.has_value());
    CHECK(*again == *plan);
    CHECK(judge(*plan, {}).move == Move::Hold || plan->on_silence == OnSilence::RollBack);
  }
  if (const auto evidence = parse_evidence(text)) {
    const auto again = parse_evidence(to_json(*evidence));
    CHECK(again.has_value());
    CHECK(*again == *evidence);
    Evidence twice = *evidence;
    twice.merge(*evidence);
    CHECK(twice.requests == 2 * evidence->requests);
    CHECK(!to_json(judge({}, {.champion = twice, .challenger = *evidence})).empty());
  }
  if (const auto snapshot = parse_snapshot(text)) {
    const auto again = parse_snapshot(to_json(*snapshot));
    CHECK(again.has_value());
    CHECK(*again == *snapshot);
    CHECK(!to_json(judge({}, *snapshot)).empty());
  }
  return 0;
}
