#include "remote/store_counts.h"

#include <fmt/format.h>

namespace mayfly {
namespace {

constexpr std::array<std::string_view, StoreCounts::kAsks> kAskWords = {
    "get", "head", "put", "delete", "list", "multipart"};
constexpr std::array<std::string_view, StoreCounts::kOutcomes> kOutcomeWords = {
    "done", "absent", "refused", "busy", "away"};

std::string family(std::string_view name, std::string_view type, std::string_view help) {
  return fmt::format("# HELP {0} {2}\n# TYPE {0} {1}\n", name, type, help);
}

}  // namespace

StoreCounts::Ask kind_of(std::string_view method, bool of_bucket) {
  if (of_bucket) return StoreCounts::Ask::List;
  if (method == "HEAD") return StoreCounts::Ask::Head;
  if (method == "PUT") return StoreCounts::Ask::Put;
  if (method == "DELETE") return StoreCounts::Ask::Delete;
  return method == "POST" ? StoreCounts::Ask::Multipart : StoreCounts::Ask::Get;
}

std::string metrics_of(const StoreCounts& counts, bool away) {
  std::string text = family("mayfly_object_store_requests_total", "counter",
                            "Requests to the object store, by kind and outcome");
  for (std::size_t ask = 0; ask < StoreCounts::kAsks; ++ask) {
    for (std::size_t outcome = 0; outcome < StoreCounts::kOutcomes; ++outcome) {
      const std::uint64_t count = counts.requests[ask][outcome];
      if (count == 0) continue;
      text += fmt::format("mayfly_object_store_requests_total{{kind=\"{}\",outcome=\"{}\"}} {}\n",
                          kAskWords[ask], kOutcomeWords[outcome], count);
    }
  }
  text += family("mayfly_object_store_retries_total", "counter",
                 "Requests to the object store that followed one that failed");
  text += fmt::format("mayfly_object_store_retries_total {}\n", counts.again.load());
  text += family("mayfly_object_store_bytes_total", "counter",
                 "Bytes of objects sent to the object store and received from it");
  text +=
      fmt::format("mayfly_object_store_bytes_total{{direction=\"sent\"}} {}\n", counts.sent.load());
  text += fmt::format("mayfly_object_store_bytes_total{{direction=\"received\"}} {}\n",
                      counts.received.load());
  text += family("mayfly_object_store_cache_total", "counter",
                 "Blobs that were wanted on this machine: there, or fetched");
  text += fmt::format("mayfly_object_store_cache_total{{event=\"hit\"}} {}\n", counts.hits.load());
  text +=
      fmt::format("mayfly_object_store_cache_total{{event=\"miss\"}} {}\n", counts.misses.load());
  text += family("mayfly_object_store_cache_bytes", "gauge", "Bytes of blobs in the cache");
  text += fmt::format("mayfly_object_store_cache_bytes {}\n", counts.cached.load());
  text += family("mayfly_object_store_up", "gauge",
                 "Whether the object store answered when it was asked last");
  return text + fmt::format("mayfly_object_store_up {}\n", away ? 0 : 1);
}

}  // namespace mayfly
