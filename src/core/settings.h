// What can change without a deploy: a function's scaling, quotas and retention. Changed by
// `mayfly configure NAME key=value`, each change kept in the function's history.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "core/gate_policy.h"

namespace mayfly {

struct FunctionSettings {
  std::uint32_t min_instances = 0;  // kept running even when idle
  std::uint32_t max_instances = 0;  // 0: as many as the node's memory and CPU rule allow
  bool keep_warm = false;           // the template stays; under memory pressure it goes last
  Duration idle_timeout = std::chrono::minutes(1);       // an idle instance ends after this
  Duration template_timeout = std::chrono::minutes(10);  // an idle template ends after this
  std::uint32_t queue_limit = 1000;   // waiting requests; the next one gets 429 queue_full
  std::uint32_t max_concurrency = 0;  // requests in flight, waiting included; 0: unlimited
  std::uint32_t keep_versions = 0;    // older ones may be collected; 0: all are kept
  // Of events (Prefer: respond-async):
  std::uint32_t max_attempts = 4;                // then it is a dead letter
  Duration max_age = std::chrono::hours(24);     // what has not ended by then expires
  Duration result_ttl = std::chrono::hours(24);  // how long results can be fetched
  std::uint32_t max_events = 100'000;  // accepted and not over; the next one gets 429 queue_full
  // Who is told of results, and who of all other ends (core/destination.h); empty: nobody.
  std::string on_success = {};
  std::string on_failure = {};
  // Of versions that a training makes:
  GatePolicy gate = {};        // what one must show
  std::string rollout = "{}";  // and how it then gets its requests: JSON, of rollout/plan.h
  bool operator==(const FunctionSettings&) const = default;
};

std::string to_json(const FunctionSettings& settings);
Result<FunctionSettings> parse_settings(
    std::string_view json);  // strict; absent keys keep defaults

// `settings` with the changes of {"idle_timeout":"5s",…} applied; checked as a whole.
Result<FunctionSettings> apply_settings(const FunctionSettings& settings,
                                        std::string_view changes_json);
// "idle_timeout=5s" → {"idle_timeout":"5s"}, with the value's type taken from the setting.
Result<std::string> settings_changes_json(const std::vector<std::string>& assignments);

}  // namespace mayfly
