#include "core/reason.h"

#include <algorithm>
#include <array>
#include <utility>

#include "base/check.h"
#include "core/call_reason.h"
#include "core/caller_reason.h"
#include "core/event_reason.h"
#include "core/secret.h"
#include "core/signing_reason.h"
#include "core/store_reason.h"
#include "core/train_reason.h"

namespace mayfly {
namespace {

using enum Code;

constexpr auto kCatalogue = std::to_array<ReasonEntry>({
    {reason::kBadRequest, InvalidArgument, 400, "the request cannot be parsed"},
    {reason::kInvalidInput, InvalidArgument, 400, "the inputs do not fit the function's signature"},
    {reason::kTooLarge, OutOfRange, 413, "a header, body, nesting or reply exceeds its limit"},
    {reason::kUnsupportedMedia, InvalidArgument, 415,
     "the content type or encoding is not accepted here"},
    {reason::kUnsupported, Unimplemented, 501, "the protocol has this, this server does not"},
    {reason::kForbiddenHost, PermissionDenied, 403,
     "the Host header names neither loopback nor a configured host"},
    {reason::kForbiddenOrigin, PermissionDenied, 403, "a control request from a foreign web page"},
    {reason::kMethodNotAllowed, InvalidArgument, 405, "the path exists, the method does not"},
    {reason::kNotFound, NotFound, 404, "no such path or object"},
    {reason::kUnknownFunction, NotFound, 404, "no function of this name"},
    {reason::kUnknownVersion, NotFound, 404, "the function has no such version"},
    {reason::kUnauthenticated, Unauthenticated, 401,
     "the node has keys, and the request carries none that is valid"},
    {reason::kMissingScope, PermissionDenied, 403,
     "the key does not have the scope that this needs"},
    {reason::kQuotaExceeded, ResourceExhausted, 429,
     "the project is over one of its quotas, which the message names"},
    {reason::kClientGone, Cancelled, 499, "the client disconnected before the reply"},
    {reason::kQueueFull, ResourceExhausted, 429, "the function's queue is full"},
    {reason::kRepeatedCrashes, ResourceExhausted, 429,
     "the caller's requests keep killing instances"},
    {reason::kNodeBusy, Unavailable, 503,
     "the node has too many connections or bytes of request bodies"},
    {reason::kHopelessDeadline, DeadlineExceeded, 504,
     "the deadline would pass before the queue reaches the request"},
    {reason::kMemoryPressure, Unavailable, 503, "the node's memory does not hold another instance"},
    {reason::kDraining, Unavailable, 503, "the node is shutting down"},
    {reason::kStorageFull, Unavailable, 503,
     "records cannot be written: the disk is full or failing"},
    {reason::kStoreUnavailable, Unavailable, 503,
     "the object store (store.s3) is away, slow or refuses; its words follow"},
    {reason::kSourceFailed, FailedPrecondition, 422,
     "what was to be fetched could not be; the message says from where and why"},
    {reason::kInstanceCrashed, Internal, 500, "the instance died while it ran the request"},
    {reason::kOutOfMemory, ResourceExhausted, 500, "the instance exceeded its memory limit"},
    {reason::kDeadlineExceeded, DeadlineExceeded, 504, "the request ran into its deadline"},
    {reason::kStartFailed, Unavailable, 503,
     "no instance can be started; retried with growing pauses"},
    {reason::kModelError, InvalidArgument, 400,
     "the model refused the inputs; its own words follow"},
    {reason::kFunctionError, Internal, 500,
     "the function raised an exception; its type and words follow, its traceback is in the logs"},
    {reason::kBadReply, Internal, 500, "the instance answered with something malformed"},
    {reason::kInvalidManifest, InvalidArgument, 400,
     "mayfly.toml or the manifest has an unknown or wrong key"},
    {reason::kInvalidModel, InvalidArgument, 422,
     "the artifact is not a model that can be served here"},
    {reason::kPublishFailed, FailedPrecondition, 422,
     "publishing crashed, hung or ran out of memory"},
    {reason::kDigestMismatch, DataLoss, 422,
     "the bytes received do not hash to the digest that was named"},
    {reason::kInvalidSetting, InvalidArgument, 400, "no such setting, or a value out of its range"},
    {reason::kInvalidTraffic, InvalidArgument, 400,
     "weights that do not sum to 100, or a version that cannot have one"},
    {reason::kRecentTraffic, FailedPrecondition, 409,
     "the function was called recently; confirm to go on"},
    {reason::kWeakIsolation, FailedPrecondition, 503,
     "isolation_level is strict and a layer is missing"},
    {reason::kEventDead, FailedPrecondition, 422,
     "the event was given up; the message says why, redrive tries it again"},
    {reason::kEventExpired, DeadlineExceeded, 422,
     "the event did not end within the function's max_age"},
    {reason::kEventCancelled, Cancelled, 422, "the event was cancelled"},
    {reason::kResultGone, NotFound, 410, "the event's result was kept for result_ttl, and is gone"},
    {reason::kAttemptLost, Unavailable, 503,
     "the server died while the event's attempt ran; it is tried again and not billed"},
    {reason::kSecretUnavailable, FailedPrecondition, 409,
     "a secret that the function names is not set, or cannot be opened with the node's key"},
    {reason::kInvalidSignature, InvalidArgument, 422,
     "the signature is malformed, or not of these bytes: something was altered, added or removed"},
    {reason::kUntrustedSigner, PermissionDenied, 403,
     "not signed, or by a key that the project does not trust or has revoked"},
    {reason::kParityFailed, FailedPrecondition, 422,
     "the trained model, exported, does not say what its trainer says; the row follows"},
    {reason::kCallDeadlock, FailedPrecondition, 409,
     "the called function could only start where its own callers end, which wait for it"},
    {reason::kCallTooDeep, FailedPrecondition, 409, "functions called functions more than 8 deep"},
    {reason::kConflict, Aborted, 409, "somebody else changed this first"},
    {reason::kInternal, Internal, 500, "a fault of the server"},
});

}  // namespace

std::span<const ReasonEntry> reason_catalogue() { return kCatalogue; }

const ReasonEntry* find_reason(std::string_view slug) {
  const auto* found = std::ranges::find(kCatalogue, slug, &ReasonEntry::slug);
  return found == kCatalogue.end() ? nullptr : found;
}

std::unexpected<Error> refuse(std::string_view slug, std::string message) {
  const ReasonEntry* entry = find_reason(slug);
  CHECK(entry != nullptr);
  return fail(entry->code, std::move(message), entry->slug);
}

int http_status(const Error& error) {
  if (const ReasonEntry* entry = find_reason(error.reason)) return entry->http_status;
  switch (error.code) {
    case InvalidArgument:
    case OutOfRange:
      return 400;
    case Unauthenticated:
      return 401;
    case PermissionDenied:
      return 403;
    case NotFound:
      return 404;
    case AlreadyExists:
    case Aborted:
    case FailedPrecondition:
      return 409;
    case ResourceExhausted:
      return 429;
    case Cancelled:
      return 499;
    case Unimplemented:
      return 501;
    case Unavailable:
      return 503;
    case DeadlineExceeded:
      return 504;
    default:
      return 500;
  }
}

// sysexits-like and documented in docs/cli.md: 2 is what the user can mend in the command itself.
int exit_code(Code code) {
  switch (code) {
    case InvalidArgument:
    case OutOfRange:
    case Unimplemented:
      return 2;
    case NotFound:
      return 3;
    case AlreadyExists:
    case Aborted:
    case FailedPrecondition:
      return 4;
    case PermissionDenied:
    case Unauthenticated:
      return 5;
    case Unavailable:
      return 6;
    case DeadlineExceeded:
      return 7;
    case ResourceExhausted:
      return 8;
    default:
      return 1;
  }
}

}  // namespace mayfly
