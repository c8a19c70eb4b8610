#include "data/ingest_detail.h"

#include <algorithm>
#include <utility>

#include "core/json_reader.h"
#include "core/reason.h"

namespace mayfly {
namespace {

std::unexpected<Error> damaged_detail() {
  return fail(Code::DataLoss, "what is kept of an ingest is damaged");
}

std::string dump_detail(const Json& json) {
  return json.dump(-1, ' ', false, Json::error_handler_t::replace);
}

Json source_json(const IngestDetail::Source& source) {
  Json json{{"name", source.name}};
  if (source.digest) json["sha256"] = to_string(*source.digest);
  if (!source.remote) return json;
  json["url"] = source.remote->url;
  if (!source.remote->credentials.empty()) json["credentials"] = source.remote->credentials;
  if (!source.remote->endpoint.empty()) json["endpoint"] = source.remote->endpoint;
  if (!source.remote->region.empty()) json["region"] = source.remote->region;
  return json;
}

Result<IngestDetail::Source> read_kept_source(const Json& json) {
  IngestDetail::Source source;
  RemoteSource remote;
  std::string sha256;
  JsonReader reader(json, "ingest: source", reason::kInternal);
  reader.text("name", source.name)
      .text("sha256", sha256)
      .text("url", remote.url)
      .text("credentials", remote.credentials)
      .text("endpoint", remote.endpoint)
      .text("region", remote.region);
  TRY(reader.finish());
  if (!sha256.empty()) source.digest = parse_digest(sha256);
  if (!remote.url.empty()) source.remote = std::move(remote);
  if (source.digest.has_value() == sha256.empty() || (!source.digest && !source.remote))
    return damaged_detail();
  return source;
}

Result<FetchState::Got> read_got(const Json& json) {
  FetchState::Got got;
  std::string sha256;
  std::uint64_t source = 0;
  JsonReader reader(json, "ingest: fetched", reason::kInternal);
  reader.integer("source", source, 0, kMaxIngestSources)
      .text("sha256", sha256)
      .integer("size", got.size, 0, INT64_MAX)
      .text("content_type", got.content_type);
  TRY(reader.finish());
  const auto digest = parse_digest(sha256);
  if (!digest) return damaged_detail();
  got.digest = *digest;
  got.source = source;
  return got;
}

}  // namespace

std::string to_json(const IngestDetail& detail) {
  Json sources = Json::array();
  for (const IngestDetail::Source& source : detail.sources) sources.push_back(source_json(source));
  Json json{{"options", to_json_value(detail.options)},
            {"sources", std::move(sources)},
            {"mode", to_string(detail.mode)}};
  if (detail.snapshot > 0) json["snapshot"] = detail.snapshot;
  if (!detail.reason.empty()) json["reason"] = detail.reason;
  return dump_detail(json);
}

Result<IngestDetail> parse_ingest_detail(std::string_view text) {
  if (text.size() > kMaxIngestDetail) return damaged_detail();
  const Json json = TRY(parse_json(text, "ingest"));
  IngestDetail detail;
  std::string mode;
  JsonReader reader(json, "ingest", reason::kInternal);
  reader.text("mode", mode)
      .integer("snapshot", detail.snapshot, 0, UINT32_MAX)
      .text("reason", detail.reason);
  const Json* options = reader.value("options");
  const Json* sources = reader.value("sources");
  TRY(reader.finish());
  const auto known = parse_ingest_mode(mode);
  if (!known || options == nullptr || sources == nullptr || !sources->is_array())
    return damaged_detail();
  detail.mode = *known;
  detail.options = TRY(read_ingest_options(*options));
  for (const Json& item : *sources) detail.sources.push_back(TRY(read_kept_source(item)));
  return detail;
}

Digest recipe_of(const IngestDetail& detail) {
  IngestDetail bare = detail;
  for (IngestDetail::Source& source : bare.sources) {
    source.name.clear();
    source.remote.reset();
  }
  bare.reason.clear();
  return sha256(to_json(bare));
}

const FetchState::Got* FetchState::find(std::size_t source) const {
  const auto found = std::ranges::find(got, source, &Got::source);
  return found == got.end() ? nullptr : &*found;
}

std::string to_json(const FetchState& state) {
  Json list = Json::array();
  for (const FetchState::Got& got : state.got) {
    list.push_back({{"source", got.source},
                    {"sha256", to_string(got.digest)},
                    {"size", got.size},
                    {"content_type", got.content_type}});
  }
  return dump_detail({{"fetched", std::move(list)}, {"at", state.at}, {"etag", state.etag}});
}

Result<FetchState> parse_fetch_state(std::string_view text) {
  FetchState state;
  if (text.empty()) return state;
  const Json json = TRY(parse_json(text, "ingest"));
  std::uint64_t at = 0;
  JsonReader reader(json, "ingest", reason::kInternal);
  reader.integer("at", at, 0, kMaxIngestSources).text("etag", state.etag);
  const Json* fetched = reader.value("fetched");
  TRY(reader.finish());
  if (fetched == nullptr || !fetched->is_array() || fetched->size() > kMaxIngestSources)
    return damaged_detail();
  state.at = at;
  for (const Json& item : *fetched) state.got.push_back(TRY(read_got(item)));
  return state;
}

}  // namespace mayfly
