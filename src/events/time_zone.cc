#include "events/time_zone.h"

#include <date/tz.h>
#include <fmt/format.h>

#include <stdexcept>

#include "core/printable.h"
#include "core/reason.h"

namespace mayfly {

Result<TimeZone> TimeZone::find(std::string_view name) {
  try {
    const date::time_zone* zone = date::locate_zone(name);
    (void)zone->get_info(date::sys_seconds{});  // its file is read now, or cannot be
    return TimeZone(*zone);
  } catch (const std::exception&) {
    return refuse(reason::kInvalidSetting,
                  fmt::format("timezone: the system knows no '{}'; write a name of the IANA "
                              "database, as Europe/Berlin or UTC",
                              printable(name, 64)));
  }
}

}  // namespace mayfly
