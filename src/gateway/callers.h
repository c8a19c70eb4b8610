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
#include "gateway/token_issuers.h"
#include "identity/audit_log.h"
#include "identity/certificate_map.h"
#include "identity/key_store.h"
#include "identity/principal.h"
#include "identity/refusal_limit.h"
#include "net/tls.h"

namespace mayfly {

// "127.0.0.1:51234" without its port, "unix" as it is: how entries and histories name a peer.
std::string address_of(std::string_view peer);

// What a request shows of who sent it.
struct Credentials {
  std::optional<std::string_view> authorization = {};  // the header's value
  const PeerCertificate* certificate = nullptr;        // verified; null: none
};

class Callers {
 public:
  struct Parts {  // all outlive me
    Loop& loop;
    Pool& pool;
    KeyStore& keys;
    AuditLog& audit;
    TokenIssuers* issuers = nullptr;               // null: no tokens are taken
    const CertificateMap* certificates = nullptr;  // null: certificates stand for nobody
  };

  explicit Callers(Parts parts);

  // Whether requests must show who sends them: there was a key once, or there is another way.
  bool closed() const {
    return parts_.issuers != nullptr || parts_.certificates != nullptr || keys_->closed();
  }
  // A key or token counts, and without either the certificate. unauthenticated: there must be one
  // and is not, or is none that is known here.
  Result<PrincipalRef> who(const Credentials& shown);
  // The same for what goes on after who(), as streams do: keys end meanwhile, and the first one
  // closes the node. It is no use of the key that anybody is told of.
  Result<PrincipalRef> still(const Credentials& shown);
  // Whether who() refused a token that it may take once learn() has ended: its issuer's keys are
  // being fetched, or may have changed.
  bool may_learn(std::optional<std::string_view> authorization) const;
  Task<void> learn(std::string authorization);
  // Somebody without a key, where one is needed: may ask whether the node is well.
  const PrincipalRef& stranger() const { return stranger_; }
  // Whoever speaks over the admin socket: the owner of the data folder.
  const PrincipalRef& owner() const { return owner_; }

  // Keys were made or revoked: known from now on.
  void refresh() { keys_ = parts_.keys.table(); }

  // Ends when the entry is on disk; its time is set here. What cannot be written is logged, and the
  // action is not undone. Of what one caller is refused only so much is kept (RefusalLimit); how
  // much was not, an entry of its own says some seconds later.
  Task<void> audit(AuditEntry entry);
  // The same of somebody without a valid key, who is not waited for.
  void audit_stranger(AuditEntry entry);

  // Writes down when keys were used last and what was not kept, which otherwise happens some
  // seconds after.
  Task<void> close();

 private:
  bool keep(const AuditEntry& entry);
  Task<void> write(AuditEntry entry);
  Task<void> write_uses();
  Task<void> write_dropped();

  Parts parts_;
  KeyTableRef keys_;
  PrincipalRef nobody_;  // everybody, while there are no keys
  PrincipalRef stranger_;
  PrincipalRef owner_;
  std::map<std::string, WallTime, std::less<>> used_;  // since they were last written
  RefusalLimit refusals_;
  Timer write_;
  Timer write_dropped_;
  Gate inside_;
};

}  // namespace mayfly
