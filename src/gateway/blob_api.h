// Uploads: blobs stream to disk, are hashed on the way, and go on where they broke.
//
//   HEAD  /api/v1/blobs/DIGEST          200 the node has it · 404 with Upload-Offset: where to go
//   on PATCH /api/v1/blobs/DIGEST          Upload-Offset, Upload-Length; the body is appended; 200
//   when whole, else 202 POST  /api/v1/blobs                 a blob whose digest nobody computed:
//   201 with its digest
#pragma once

#include <string_view>

#include "async/pool.h"
#include "async/task.h"
#include "base/bytes.h"
#include "identity/blob_owners.h"
#include "net/exchange.h"
#include "registry/pins.h"
#include "serving/quota_gate.h"
#include "store/blob_store.h"

namespace mayfly {

class BlobApi {
 public:
  // All outlive me.
  struct Parts {
    BlobStore& blobs;
    BlobOwners& owners;
    Pins& pins;
    Pool& pool;
    const QuotaGate& quotas;
  };
  BlobApi(Parts parts, Bytes max_upload)
      : blobs_(parts.blobs),
        owners_(parts.owners),
        pins_(parts.pins),
        pool_(parts.pool),
        quotas_(parts.quotas),
        max_upload_(max_upload) {}

  // `project`: whose blobs and uploads are meant; others' are not there. An upload counts towards
  // the project's stored bytes from its beginning: quota_exceeded.
  Task<Result<Response>> state(std::string_view project, std::string_view digest);
  Task<Result<Response>> append(Exchange& exchange, std::string_view project,
                                std::string_view digest);
  Task<Result<Response>> create(Exchange& exchange, std::string_view project);

 private:
  Task<Result<BlobInfo>> commit(BlobWriter& writer, std::string_view project, const Digest& slot);
  Task<Result<Bytes>> reserve(BlobOwners::Upload upload);
  Task<Result<BlobInfo>> take(Exchange& exchange, std::string_view project, const Digest& slot,
                              Bytes room);
  Task<Status> receive(Exchange& exchange, BlobWriter& writer, std::uint64_t limit);

  BlobStore& blobs_;
  BlobOwners& owners_;
  Pins& pins_;
  Pool& pool_;
  const QuotaGate& quotas_;
  Bytes max_upload_;
};

}  // namespace mayfly
