// How much a project may take. Pure values; gateway/quota_gate.h enforces them.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/result.h"

namespace mayfly {

// 0: no limit.
struct Quotas {
  std::uint32_t requests_per_second = 0;   // predictions; a second's worth at once
  std::uint32_t concurrency = 0;           // predictions at the same time
  std::uint64_t gb_seconds_per_month = 0;  // as the bill counts them; a month of UTC
  Bytes memory{};                          // private bytes of its templates and instances together
  Bytes stored{};                          // what it has uploaded, and is uploading
  Bytes jobs{};                            // files that its jobs keep
  Bytes data{};                            // its datasets
  bool operator==(const Quotas&) const = default;
};

std::string to_json(const Quotas& quotas);
// `changes` over `quotas`: what it does not name stays. invalid_setting: an unknown key, or a value
// out of range.
Result<Quotas> change_quotas(Quotas quotas, std::string_view changes);

}  // namespace mayfly
