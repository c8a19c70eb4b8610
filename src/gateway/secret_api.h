// The secrets of a project under /api/v1/secrets: they are set and deleted here, and never shown.
// Loop thread; what blocks runs on the pool.
#pragma once

#include <map>
#include <string>
#include <string_view>
#include <vector>

#include "async/pool.h"
#include "async/task.h"
#include "dispatch/dispatcher.h"
#include "gateway/route.h"
#include "identity/secret_store.h"
#include "net/exchange.h"
#include "registry/registry.h"

namespace mayfly {

class SecretApi {
 public:
  struct Parts {  // all outlive me
    Pool& pool;
    SecretStore& secrets;
    Registry& registry;
    Dispatcher& dispatcher;
  };

  explicit SecretApi(Parts parts) : parts_(parts) {}

  Task<Result<Response>> call(Exchange& exchange, const Route& route);

 private:
  // By a secret's name the versions that name it: "score@2".
  using Users = std::map<std::string, std::vector<std::string>, std::less<>>;
  Task<Result<Response>> list(const Route& route);
  Task<Result<Response>> set(Exchange& exchange, const Route& route);
  Task<Result<Response>> remove(const Exchange& exchange, const Route& route);
  Result<Users> users_in(std::string_view project) const;  // blocking

  Parts parts_;
};

}  // namespace mayfly
