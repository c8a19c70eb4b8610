// Sources that lie elsewhere become blobs, before the jail of their ingest, which has no network. A
// download is cut into stretches: behind each the job keeps how far it is, so that whatever happens
// to the server it goes on there, where the source's ETag vouches for what came. Loop thread.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>

#include "async/loop.h"
#include "async/pool.h"
#include "async/task.h"
#include "base/bytes.h"
#include "data/ingest_detail.h"
#include "jobs/slice.h"
#include "store/blob_store.h"

namespace mayfly {

struct DownloadAsk {
  std::string project;  // whose secrets it names
  RemoteSource source;
  Bytes most;
  std::string etag = {};  // of what is there already, where its digest is not known
  struct Standing {
    std::uint64_t received = 0;
    std::optional<std::uint64_t> total = {};
    std::string_view etag = {};
  };
  std::function<Status(const Standing&)> on_progress = {};  // an Error ends it with that
};
struct Downloaded {
  std::uint64_t size = 0;
  std::string content_type;
};
// Appends to `into` what it lacks. Blocks, on a thread of a pool; errors are in words for whoever
// asked, without credentials. draining: the node stops.
using Download = std::function<Result<Downloaded>(const DownloadAsk& ask, BlobWriter& into)>;

class SourceFetch {
 public:
  struct Parts {  // all outlive me
    Loop& loop;
    Pool& pool;  // whose threads wait for the network
    JobStore& store;
    BlobStore& blobs;
    Download download;
    // What the project's jobs may keep; 0: no limit. Asked on the loop thread.
    std::function<Bytes(std::string_view project)> byte_limit;
    Bytes most = gib(64);  // of one source
    // What is kept at least so often.
    Bytes stretch = mib(64);
    Duration stretch_time = std::chrono::seconds(10);
    Duration tell_every = std::chrono::milliseconds(500);
  };
  explicit SourceFetch(Parts parts) : parts_(std::move(parts)) {}

  // All that is elsewhere and not yet here; kept in the job as it comes, and pinned.
  struct End {
    FetchState state;
    bool whole = true;  // false: the slice is over before that
  };
  Task<Result<End>> run(SliceAsk& ask, const IngestDetail& detail, Pin& pin);
  // What the job's checkpoint is, to end a slice with.
  static JobStore::SliceResult unfinished(const FetchState& state);

 private:
  struct Transfer;
  enum class Ended : std::uint8_t { Whole, Stretch };
  Task<Result<Ended>> fetch_one(SliceAsk& ask, Transfer& transfer, FetchState& state, Pin& pin);
  Task<Result<Ended>> fetch_stretch(SliceAsk& ask, Transfer& transfer, Pin& pin);
  Result<Ended> transfer_on_pool(Transfer& transfer, Pin& pin) const;
  Result<std::unique_ptr<BlobWriter>> open(const Transfer& transfer) const;
  Task<Status> keep(SliceAsk& ask, const FetchState& state);
  Task<void> forget(std::string job, Digest slot, const Error& why);

  Parts parts_;
};

}  // namespace mayfly
