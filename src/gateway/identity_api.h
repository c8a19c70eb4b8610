// Keys, projects and the audit log under /api/v1. Loop thread; what blocks runs on the pool.
#pragma once

#include "async/pool.h"
#include "async/task.h"
#include "gateway/callers.h"
#include "gateway/route.h"
#include "identity/audit_log.h"
#include "identity/key_store.h"
#include "identity/project_store.h"
#include "net/exchange.h"
#include "serving/quota_gate.h"

namespace mayfly {

class IdentityApi {
 public:
  struct Parts {  // all outlive me
    Pool& pool;
    const Clock& clock;
    KeyStore& keys;
    AuditLog& audit;
    ProjectStore& projects;
    QuotaGate& quotas;
    Callers& callers;
  };

  explicit IdentityApi(Parts parts) : parts_(parts) {}

  // The id of a key, and the name of a project, that was made stand in route.version afterwards;
  // the project of a key that was made or revoked in route.project.
  Task<Result<Response>> call(Exchange& exchange, Route& route);

 private:
  Task<Result<Response>> create(Exchange& exchange, Route& route);
  Task<Result<Response>> list(const Route& route);
  Task<Result<Response>> revoke(Route& route);
  Task<Result<Response>> list_projects();
  Task<Result<Response>> create_project(Exchange& exchange, Route& route);
  Task<Result<Response>> set_quotas(Exchange& exchange, const Route& route);
  Task<Result<QuotaTable>> projects();
  Task<Result<Response>> audit(const Exchange& exchange, const Route& route);

  Parts parts_;
};

}  // namespace mayfly
