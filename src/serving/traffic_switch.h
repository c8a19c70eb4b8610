// Moves a function's traffic: the registry's change with what must happen before and after it. A
// version that is about to get requests of a function in use is started first; one that gets none
// any more goes to zero once it has answered what it has. Loop thread.
#pragma once

#include <vector>

#include "async/pool.h"
#include "async/task.h"
#include "dispatch/dispatcher.h"
#include "identity/signing_key_store.h"
#include "registry/registry.h"
#include "serving/catalog.h"
#include "serving/shadows.h"

namespace mayfly {

class TrafficSwitch {
 public:
  struct Parts {  // all outlive me
    Pool& pool;
    Registry& registry;
    Catalog& catalog;
    Dispatcher& dispatcher;
    Shadows& shadows;
    SigningKeyStore& signing;
  };
  explicit TrafficSwitch(Parts parts) : parts_(parts) {}

  // Starts the versions where the function is being used: the part of split() and point() that
  // takes long. start_failed: one cannot be started.
  Task<Status> warm(FunctionName name, std::vector<VersionNumber> versions);
  // As Registry's calls of these names; what they answer is the function as it then is.
  // start_failed: a version cannot be started, and nothing has changed.
  Task<Result<FunctionTable::Entry>> split(FunctionName name, Traffic traffic, Author author,
                                           FunctionTable::Entry seen = nullptr);
  Task<Result<FunctionTable::Entry>> point(FunctionName name, VersionNumber version, Author author,
                                           FunctionTable::Entry seen = nullptr);
  Task<Result<FunctionTable::Entry>> move_alias(FunctionName name, AliasMove move, Author author);
  // Not warmed first: whoever goes back wants the broken version gone now.
  Task<Result<FunctionTable::Entry>> roll_back(FunctionName name, Author author);
  Task<Result<FunctionTable::Entry>> go_back_to(FunctionName name, VersionNumber version,
                                                Author author, FunctionTable::Entry seen);
  // The next version, signed, with its share of the requests. conflict: a canary, and the
  // function's traffic was changed meanwhile. secret_unavailable: the project's key does not open.
  struct Introduced {
    VersionNumber number;
    FunctionTable::Entry function;
  };
  Task<Result<Introduced>> introduce(Deployment deployment, Author author);

 private:
  FunctionTable::Entry known(const FunctionName& name) const;  // null: none
  Status sign(Deployment& deployment) const;                   // blocking
  Task<Result<FunctionTable::Entry>> settle(FunctionName name, FunctionTable::Entry before);
  void publish() { parts_.catalog.publish(parts_.registry.snapshot()); }

  Parts parts_;
};

}  // namespace mayfly
