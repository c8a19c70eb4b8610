// The keys that a project signs versions with, and whom it trusts, under /api/v1/signing-keys; and
// versions as folders that can be carried elsewhere. Loop thread; what blocks runs on the pool.
#pragma once

#include <string_view>

#include "async/pool.h"
#include "async/task.h"
#include "gateway/route.h"
#include "identity/signing_key_store.h"
#include "net/exchange.h"
#include "registry/registry.h"
#include "serving/catalog.h"
#include "store/blob_store.h"

namespace mayfly {

class SigningApi {
 public:
  struct Parts {  // all outlive me
    Pool& pool;
    SigningKeyStore& keys;
    Registry& registry;
    Catalog& catalog;
    BlobStore& blobs;
  };

  explicit SigningApi(Parts parts) : parts_(parts) {}

  // Everything but the bytes of files.
  Task<Result<Response>> call(Exchange& exchange, const Route& route);
  // A file of a version, ?path=…, from its blob. An error was told to nobody.
  Task<Status> send_file(Exchange& exchange, const Route& route, std::string_view cors_origin);

 private:
  Task<Result<Response>> list(const Route& route);
  Task<Result<Response>> create(Exchange& exchange, const Route& route);
  Task<Result<Response>> trust(Exchange& exchange, const Route& route);
  Task<Result<Response>> revoke(const Exchange& exchange, const Route& route);
  Task<Result<Response>> export_version(const Route& route);

  Parts parts_;
};

}  // namespace mayfly
