#include "serving/body_budget.h"

#include <optional>

#include <doctest/doctest.h>

using namespace mayfly;

TEST_CASE("bodies share a budget and give it back; one that is alone always has room") {
  BodyBudget budget(mib(10));
  std::optional<BodyBudget::Hold> first(std::in_place, budget);
  BodyBudget::Hold second(budget);
  CHECK(first->grow_to(mib(6)));
  CHECK(second.grow_to(mib(4)));
  CHECK_FALSE(second.grow_to(mib(5)));
  CHECK(budget.used() == mib(10));
  CHECK(second.grow_to(mib(3)));  // has it already
  first.reset();
  CHECK(second.grow_to(mib(20)));
  const BodyBudget::Hold moved(std::move(second));
  CHECK(budget.used() == mib(20));
}
