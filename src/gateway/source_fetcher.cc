#include "gateway/source_fetcher.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "core/reason.h"
#include "core/store_reason.h"
#include "remote/s3_credentials.h"

namespace mayfly {

std::string shown_source(std::string_view url) { return std::string(url.substr(0, url.find('?'))); }

Result<FetchSource> SourceFetcher::source_of(std::string_view project,
                                             const RemoteSource& source) const {
  const bool in_store = source.url.starts_with("s3://");
  if (!in_store &&
      (!source.credentials.empty() || !source.endpoint.empty() || !source.region.empty())) {
    return refuse(reason::kBadRequest,
                  fmt::format("{}: credentials, endpoint and region are of s3:// alone",
                              shown_source(source.url)));
  }
  S3Access access{.service = {.endpoint = source.endpoint}};
  if (!source.region.empty()) access.service.region = source.region;
  if (!source.credentials.empty()) {
    const Secrets secrets = TRY(parts_.secrets.read(project, {source.credentials}));
    auto credentials = parse_s3_credentials(secrets->front().value.view());
    if (!credentials) {
      return refuse(reason::kInvalidSetting,
                    fmt::format("the secret {} holds no credentials of an object store, as "
                                "~/.aws/credentials has them: {}",
                                source.credentials, credentials.error().message));
    }
    access.credentials = *std::move(credentials);
  }
  return parse_fetch_source(source.url, access);
}

Status SourceFetcher::check(std::string_view project, const RemoteSource& source) const {
  const FetchSource parsed = TRY(source_of(project, source));
  const Status may = parts_.client.policy().check_url(parsed.url);
  return may ? Status() : refuse(reason::kInvalidSetting, may.error().message);
}

Result<Downloaded> SourceFetcher::fetch(const DownloadAsk& ask, BlobWriter& into) const {
  const FetchSource source = TRY(source_of(ask.project, ask.source));
  FetchOptions options{.most = ask.most, .etag = ask.etag};
  if (ask.on_progress) {
    options.on_progress = [&](const FetchProgress& now) {
      return ask.on_progress({.received = now.received, .total = now.total, .etag = now.etag});
    };
  }
  auto fetched = mayfly::fetch(parts_.client, source, into, options, parts_.rng);
  if (fetched)
    return Downloaded{.size = fetched->size, .content_type = std::move(fetched->content_type)};
  Error error = std::move(fetched).error();
  // Of the egress policy: an address that the name has now, or a redirect's.
  if (error.code == Code::PermissionDenied && error.reason.empty())
    return refuse(reason::kSourceFailed, fmt::format("{}: {}", source.shown, error.message));
  return std::unexpected(std::move(error));
}

}  // namespace mayfly
