// What every work queue must do: each implementation's test runs it on queues of its own. `reopen`
// gives the queue as it is after the process has died and begun again.
#pragma once

#include <functional>
#include <memory>

#include "store/work_queue.h"

namespace mayfly {

using ReopenQueue = std::function<WorkQueue&()>;

void check_acceptance(const ReopenQueue& reopen);
void check_leases(const ReopenQueue& reopen);
void check_ends(const ReopenQueue& reopen);
void check_turns(const ReopenQueue& reopen);
void check_sweeping(const ReopenQueue& reopen);
void check_listing(const ReopenQueue& reopen);
void check_deliveries(const ReopenQueue& reopen);
void check_delivery_turns(const ReopenQueue& reopen);

}  // namespace mayfly
