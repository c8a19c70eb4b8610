// The key that a project's webhooks are signed with, under /api/v1/webhooks; and whether a
// destination may be set. Loop thread; what blocks runs on the pool.
#pragma once

#include <string_view>

#include "async/pool.h"
#include "async/task.h"
#include "gateway/route.h"
#include "identity/secret_store.h"
#include "net/egress_policy.h"
#include "net/exchange.h"
#include "serving/catalog.h"

namespace mayfly {

// Whether the caller may have others told by a function of his: another function must be there, and
// his to invoke; a URL must be one that could be asked. invalid_setting, unknown_function,
// missing_scope. "" is nobody, and may always be.
Status check_destination(std::string_view destination, const Principal& caller,
                         const Catalog& catalog, const EgressPolicy& policy);

class WebhookApi {
 public:
  struct Parts {  // all outlive me
    Pool& pool;
    SecretStore& secrets;
  };

  explicit WebhookApi(Parts parts) : parts_(parts) {}

  Task<Result<Response>> call(const Exchange& exchange, const Route& route);

 private:
  Parts parts_;
};

}  // namespace mayfly
