// What the node does about damage that the scrub found: the functions concerned say so in their
// history, and what serves from a damaged form ends, so that the next start makes it again. Loop
// thread.
#pragma once

#include "async/pool.h"
#include "async/task.h"
#include "dispatch/dispatcher.h"
#include "publish/scrub.h"
#include "registry/registry.h"
#include "serving/catalog.h"

namespace mayfly {

class DamageDesk {
 public:
  struct Parts {  // all outlive me
    Pool& pool;
    Registry& registry;
    Catalog& catalog;
    Dispatcher& dispatcher;
  };
  explicit DamageDesk(Parts parts) : parts_(parts) {}

  Task<void> take(Damage damage);

 private:
  struct Concerned {
    FunctionName function;
    VersionKey version;
  };
  Task<std::vector<Concerned>> concerned(const Damage& damage);

  Parts parts_;
};

}  // namespace mayfly
