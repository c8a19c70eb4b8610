#include "identity/quota.h"

#include "core/json_reader.h"
#include "core/reason.h"
#include "core/units.h"

namespace mayfly {
namespace {

constexpr std::uint32_t kMostPerSecond = 1'000'000;
constexpr std::uint32_t kMostAtOnce = 1'000'000;
constexpr std::uint64_t kMostGbSeconds = 1'000'000'000'000;
constexpr Bytes kMostBytes = gib(1024 * 1024);

}  // namespace

std::string to_json(const Quotas& quotas) {
  return Json{{"requests_per_second", quotas.requests_per_second},
              {"concurrency", quotas.concurrency},
              {"gb_seconds_per_month", quotas.gb_seconds_per_month},
              {"memory", to_string(quotas.memory)},
              {"stored_bytes", to_string(quotas.stored)},
              {"job_bytes", to_string(quotas.jobs)},
              {"data_bytes", to_string(quotas.data)}}
      .dump();
}

Result<Quotas> change_quotas(Quotas quotas, std::string_view changes) {
  const Json json = TRY(parse_json(changes, "quotas"));
  JsonReader reader(json, "quotas", reason::kInvalidSetting);
  reader.integer("requests_per_second", quotas.requests_per_second, 0U, kMostPerSecond)
      .integer("concurrency", quotas.concurrency, 0U, kMostAtOnce);
  TRY(reader
          .integer("gb_seconds_per_month", quotas.gb_seconds_per_month, std::uint64_t{0},
                   kMostGbSeconds)
          .bytes("memory", quotas.memory, {}, kMostBytes)
          .bytes("stored_bytes", quotas.stored, {}, kMostBytes)
          .bytes("job_bytes", quotas.jobs, {}, kMostBytes)
          .bytes("data_bytes", quotas.data, {}, kMostBytes)
          .finish());
  return quotas;
}

}  // namespace mayfly
