// Sources of datasets that lie elsewhere, by the door that the egress policy guards; what an s3://
// source is read with is a secret of the project, named in the wish and opened here alone. Blocks:
// for pools; any thread.
#pragma once

#include <string_view>

#include "base/rng.h"
#include "data/source_fetch.h"
#include "identity/secret_store.h"
#include "net/guarded_client.h"
#include "remote/fetch.h"

namespace mayfly {

class SourceFetcher {
 public:
  struct Parts {  // all outlive me
    const GuardedClient& client;
    SecretStore& secrets;
    Rng& rng;
  };
  explicit SourceFetcher(Parts parts) : parts_(parts) {}

  // What can be said before anything is asked: bad_request, invalid_setting, secret_unavailable.
  Status check(std::string_view project, const RemoteSource& source) const;
  Result<Downloaded> fetch(const DownloadAsk& ask, BlobWriter& into) const;

 private:
  Result<FetchSource> source_of(std::string_view project, const RemoteSource& source) const;

  Parts parts_;
};

// "https://host/a.csv" of "https://host/a.csv?token=…": what may be shown.
std::string shown_source(std::string_view url);

}  // namespace mayfly
