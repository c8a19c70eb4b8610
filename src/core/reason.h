// The catalogue of reasons: stable slugs that programs may match on, in replies ("reason"), metrics
// labels and ledger records. A slug, once published, never changes its meaning.
#pragma once

#include <span>
#include <string_view>

#include "base/result.h"

namespace mayfly {

struct ReasonEntry {
  std::string_view slug;
  Code code;
  int http_status;  // 0: the code's default
  std::string_view meaning;
};

namespace reason {
// The request itself
inline constexpr std::string_view kBadRequest = "bad_request";
inline constexpr std::string_view kInvalidInput = "invalid_input";
inline constexpr std::string_view kTooLarge = "too_large";
inline constexpr std::string_view kUnsupportedMedia = "unsupported_media_type";
inline constexpr std::string_view kUnsupported = "unsupported";
inline constexpr std::string_view kForbiddenHost = "forbidden_host";
inline constexpr std::string_view kForbiddenOrigin = "forbidden_origin";
inline constexpr std::string_view kMethodNotAllowed = "method_not_allowed";
inline constexpr std::string_view kNotFound = "not_found";
inline constexpr std::string_view kUnknownFunction = "unknown_function";
inline constexpr std::string_view kUnknownVersion = "unknown_version";
inline constexpr std::string_view kClientGone = "client_gone";
// Admission
inline constexpr std::string_view kQueueFull = "queue_full";
inline constexpr std::string_view kRepeatedCrashes = "repeated_crashes";
inline constexpr std::string_view kNodeBusy = "node_busy";
inline constexpr std::string_view kHopelessDeadline = "hopeless_deadline";
inline constexpr std::string_view kMemoryPressure = "memory_pressure";
inline constexpr std::string_view kDraining = "draining";
inline constexpr std::string_view kStorageFull = "storage_full";
// The instance
inline constexpr std::string_view kInstanceCrashed = "instance_crashed";
inline constexpr std::string_view kOutOfMemory = "out_of_memory";
inline constexpr std::string_view kDeadlineExceeded = "deadline_exceeded";
inline constexpr std::string_view kStartFailed = "start_failed";
inline constexpr std::string_view kModelError = "model_error";
inline constexpr std::string_view kFunctionError = "function_error";
inline constexpr std::string_view kBadReply = "bad_reply";
// Deploying and administration
inline constexpr std::string_view kInvalidManifest = "invalid_manifest";
inline constexpr std::string_view kInvalidModel = "invalid_model";
inline constexpr std::string_view kPublishFailed = "publish_failed";
inline constexpr std::string_view kDigestMismatch = "digest_mismatch";
inline constexpr std::string_view kInvalidSetting = "invalid_setting";
inline constexpr std::string_view kInvalidTraffic = "invalid_traffic";
inline constexpr std::string_view kRecentTraffic = "recent_traffic";
inline constexpr std::string_view kWeakIsolation = "weak_isolation";
inline constexpr std::string_view kConflict = "conflict";
inline constexpr std::string_view kInternal = "internal";
}  // namespace reason

std::span<const ReasonEntry> reason_catalogue();
// nullptr for a slug that is not in the catalogue.
const ReasonEntry* find_reason(std::string_view slug);

// The error of a catalogued reason.
std::unexpected<Error> refuse(std::string_view slug, std::string message);

// What the world sees of an error. Unlisted and empty reasons fall back to the code.
int http_status(const Error& error);
int exit_code(Code code);

}  // namespace mayfly
