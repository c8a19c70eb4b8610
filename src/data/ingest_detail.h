// What a submission of an ingest says, and how far the fetching of its sources is: the detail and
// the checkpoint of its job, as JSON. No I/O.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "runner/report/ingest_job.h"
#include "store/digest.h"

namespace mayfly {

// Bytes that lie elsewhere: https://… or s3://….
struct RemoteSource {
  std::string url;
  // Of s3:// alone: the name of a secret of the project, and whose store it is (empty: Amazon's).
  std::string credentials = {};
  std::string endpoint = {}, region = {};
  bool operator==(const RemoteSource&) const = default;
};

struct IngestDetail {
  IngestOptions options;
  struct Source {
    std::string name;                   // as its owner calls it; of what is elsewhere, without
                                        // its query
    std::optional<Digest> digest = {};  // of what was uploaded, or what has to come
    std::optional<RemoteSource> remote = {};  // nullopt: it was uploaded
    bool operator==(const Source&) const = default;
  };
  std::vector<Source> sources;
  IngestMode mode = IngestMode::Put;
  // Of Without: the snapshot that is to be without rows, which is erased then, and why.
  std::uint32_t snapshot = 0;
  std::string reason = {};

  bool is_append() const { return mode == IngestMode::Append || mode == IngestMode::Rebuild; }
};
inline constexpr std::size_t kMaxIngestDetail = 200 * 1024;
std::string to_json(const IngestDetail& detail);
// data_loss: the store is damaged.
Result<IngestDetail> parse_ingest_detail(std::string_view json);
// The same bytes, taken in the same way, have the same, wherever they came from. All digests are
// known.
Digest recipe_of(const IngestDetail& detail);

// Which of the sources that are elsewhere are here, and how the next one goes on.
struct FetchState {
  struct Got {
    std::size_t source = 0;  // its place among the detail's
    Digest digest{};
    std::uint64_t size = 0;
    std::string content_type = {};
    bool operator==(const Got&) const = default;
  };
  std::vector<Got> got;
  // Of the source that is under way, what its bytes so far have for a strong ETag; empty: none.
  std::size_t at = 0;
  std::string etag = {};

  const Got* find(std::size_t source) const;
  bool operator==(const FetchState&) const = default;
};
std::string to_json(const FetchState& state);
Result<FetchState> parse_fetch_state(std::string_view json);  // "": nothing is here

}  // namespace mayfly
