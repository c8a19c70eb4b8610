// A time zone of the system's database (tzdata), by its IANA name. Immutable; reading one the first
// time reads files, so that it belongs on a pool.
#pragma once

#include <string_view>

#include "base/result.h"

namespace date {
class time_zone;
}

namespace mayfly {

class TimeZone {
 public:
  // "Europe/Berlin", "UTC". invalid_setting: the system knows no such zone.
  static Result<TimeZone> find(std::string_view name);
  const date::time_zone& rules() const { return *rules_; }

 private:
  explicit TimeZone(const date::time_zone& rules) : rules_(&rules) {}
  const date::time_zone* rules_;  // lives as long as the process
};

}  // namespace mayfly
