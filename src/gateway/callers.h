// From what a request carries to who sent it: the same for every front door. Loop thread; checking
// a key touches no file.
#pragma once

#include <map>
#include <optional>
#include <string>
#include <string_view>

#include "async/gate.h"
#include "async/loop.h"
#include "async/pool.h"
#include "async/task.h"
#include "async/timer.h"
#include "identity/audit_log.h"
#include "identity/key_store.h"
#include "identity/principal.h"
#include "identity/token_bucket.h"

namespace mayfly {

class Callers {
 public:
  struct Parts {  // all outlive me
    Loop& loop;
    Pool& pool;
    KeyStore& keys;
    AuditLog& audit;
  };

  explicit Callers(Parts parts);

  // Whether requests need a key: there was one once.
  bool closed() const { return keys_->closed(); }
  // `authorization`: the header's value. unauthenticated: it must be there and is not, or is none
  // that is known here.
  Result<PrincipalRef> who(std::optional<std::string_view> authorization);
  // Somebody without a key, where one is needed: may ask whether the node is well.
  const PrincipalRef& stranger() const { return stranger_; }
  // Whoever speaks over the admin socket: the owner of the data folder.
  const PrincipalRef& owner() const { return owner_; }

  // Keys were made or revoked: known from now on.
  void refresh() { keys_ = parts_.keys.table(); }

  // Ends when the entry is on disk; its time is set here. What cannot be written is logged, and the
  // action is not undone.
  Task<void> audit(AuditEntry entry);
  // Of somebody without a valid key: at most some a second are kept, so that nobody fills the disk.
  void audit_stranger(AuditEntry entry);

  // Writes down when keys were used last, which otherwise happens some seconds after.
  Task<void> close();

 private:
  Task<void> write_uses();

  Parts parts_;
  KeyTableRef keys_;
  PrincipalRef nobody_;  // everybody, while there are no keys
  PrincipalRef stranger_;
  PrincipalRef owner_;
  std::map<std::string, WallTime, std::less<>> used_;  // since they were last written
  TokenBucket strangers_;
  Timer write_;
  Gate inside_;
};

}  // namespace mayfly
