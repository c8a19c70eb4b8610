// Telling a supervisor how we are: systemd's notification protocol (sd_notify(3)): one datagram to
// the socket named by NOTIFY_SOCKET. Without that variable nothing happens.
#pragma once

#include <string_view>

namespace mayfly {

void notify_supervisor(std::string_view state);  // "READY=1", "STOPPING=1"

}  // namespace mayfly
