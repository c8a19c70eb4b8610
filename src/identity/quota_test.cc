#include "identity/quota.h"

#include "core/reason.h"

#include <doctest/doctest.h>

using namespace mayfly;

TEST_CASE("quotas change by name, read back, and refuse what is none") {
  const Quotas quotas = change_quotas(Quotas{.concurrency = 4},
                                      R"({"requests_per_second": 10, "gb_seconds_per_month": 5,
                                          "memory": "1GiB", "stored_bytes": "300MiB",
                                          "job_bytes": "2GiB"})")
                            .value();
  CHECK(quotas.requests_per_second == 10);
  CHECK(quotas.concurrency == 4);
  CHECK(quotas.gb_seconds_per_month == 5);
  CHECK(quotas.memory == gib(1));
  CHECK(quotas.stored == mib(300));
  CHECK(quotas.jobs == gib(2));
  CHECK(change_quotas({}, to_json(quotas)).value() == quotas);
  CHECK(change_quotas({}, to_json(Quotas{})).value() == Quotas{});
  for (const char* bad :
       {"", "[]", R"({"requests": 1})", R"({"concurrency": -1})", R"({"concurrency": "4"})",
        R"({"concurrency": 1.5})", R"({"memory": "much"})", R"({"memory": -1})"}) {
    const auto refused = change_quotas({}, bad);
    REQUIRE_MESSAGE(!refused.has_value(), bad);
  }
}
