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
#include "net/exchange.h"
#include "registry/pins.h"
#include "store/blob_store.h"

namespace mayfly {

class BlobApi {
 public:
  // All outlive me.
  BlobApi(BlobStore& blobs, Pins& pins, Pool& pool, Bytes max_upload)
      : blobs_(blobs), pins_(pins), pool_(pool), max_upload_(max_upload) {}

  Task<Result<Response>> state(std::string_view digest);
  Task<Result<Response>> append(Exchange& exchange, std::string_view digest);
  Task<Result<Response>> create(Exchange& exchange);

 private:
  Task<Status> receive(Exchange& exchange, BlobWriter& writer, std::uint64_t limit);

  BlobStore& blobs_;
  Pins& pins_;
  Pool& pool_;
  Bytes max_upload_;
};

}  // namespace mayfly
