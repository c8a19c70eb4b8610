// Bytes from where a user says they are, https://… or s3://…, into a blob: streamed, bounded, and
// gone on with where a connection broke. All requests leave by the guarded client, so they go where
// egress.allow lets them; each redirect is looked at anew.
//
// Blocks for as long as it takes: for pools. Errors have the reason source_failed, name the source
// without its query, and never its credentials; those of the writer, of on_progress, of the egress
// policy and too_large stay as they are.
#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string>
#include <string_view>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/result.h"
#include "base/rng.h"
#include "core/web_url.h"
#include "net/guarded_client.h"
#include "remote/backoff.h"
#include "remote/s3_place.h"
#include "remote/sigv4.h"
#include "store/blob_store.h"

namespace mayfly {

// How s3:// is asked. Credentials are the user's own, never the node's (store.s3_credentials): with
// those, whoever may name a source could read what other projects have in the node's bucket.
struct S3Access {
  S3Service service = {};
  std::optional<S3Credentials> credentials = {};  // none: what everybody may read
};

struct FetchSource {
  std::string shown;  // for people and logs
  WebUrl url;
  std::optional<S3Access> s3 = {};
};
// "https://host/path?query" (http:// where egress.allow names the place) or "s3://bucket/key";
// invalid_setting.
Result<FetchSource> parse_fetch_source(std::string_view text, const S3Access& s3 = {});

struct FetchProgress {
  std::uint64_t received = 0;  // what the writer had before included
  std::optional<std::uint64_t> total = {};
  std::string_view etag = {};  // a strong one, or empty
};

struct FetchOptions {
  Bytes most = gib(64);  // more is too_large, before it is read where the source says so
  Duration stall = std::chrono::seconds(30);  // without one byte
  Duration patience = std::chrono::hours(24);
  RetryPlan retry = {};  // begins anew after each mebibyte that came
  // Of what `into` has already, where its digest is not known: the strong ETag of those bytes.
  std::string etag = {};
  // Told after every piece, and before another try; an Error ends it with that.
  std::function<Status(const FetchProgress&)> on_progress = {};
  std::function<void(Duration)> sleep = {};  // between tries; tests say it themselves
};

struct Fetched {
  std::uint64_t size = 0;
  std::string content_type;  // as the source says; perhaps empty
};

// Appends to `into` from its offset on, and leaves the commit to the caller. An upload that goes on
// (offset() > 0) is one whose digest is known, which the commit checks, or whose ETag is. What
// changed at its source between two tries is refused: a strong ETag tells.
Result<Fetched> fetch(const GuardedClient& client, const FetchSource& source, BlobWriter& into,
                      const FetchOptions& options, Rng& rng);

}  // namespace mayfly
