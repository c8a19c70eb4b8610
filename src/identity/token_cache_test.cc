#include "identity/token_cache.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

TEST_CASE("a token is known until it ends, and the least used makes room") {
  TokenCache cache(2);
  const auto who = std::make_shared<const Principal>();
  const WallTime now{};
  const Digest a = sha256("a");
  const Digest b = sha256("b");
  const Digest c = sha256("c");
  cache.add(a, who, now + 10s);
  cache.add(b, who, now + 20s);
  CHECK(cache.find(a, now) == who);
  cache.add(c, who, now + 20s);
  CHECK(cache.find(b, now) == nullptr);
  CHECK(cache.find(a, now + 10s - 1ns) == who);
  CHECK(cache.find(a, now + 10s) == nullptr);
  CHECK(cache.size() == 1);
  cache.clear();
  CHECK(cache.find(c, now) == nullptr);
}
