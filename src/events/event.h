// An event as it is kept: the request that was accepted, and the head of its reply. The bodies are
// blobs beside it (event_store.h).
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "core/invocation.h"

namespace mayfly {

using EventHeaders = std::vector<std::pair<std::string, std::string>>;

// What is sent again at each attempt.
struct EventRequest {
  std::string target;    // the path that it was posted to
  EventHeaders headers;  // those that say how the body is to be read, and what it is a part of
  std::string project;   // of who sent it
  std::string caller;    // his name, as records show it
  std::string request_id;
  bool operator==(const EventRequest&) const = default;
};

struct EventReply {
  int status = 200;
  EventHeaders headers;
  bool operator==(const EventReply&) const = default;
};

// Of an id that the node made: 36 characters.
InvocationId invocation_id_of(std::string_view text);

std::string to_json(const EventRequest& request);
Result<EventRequest> parse_event_request(std::string_view json);  // data_loss
std::string to_json(const EventReply& reply);
Result<EventReply> parse_event_reply(std::string_view json);  // data_loss

}  // namespace mayfly
