#include "events/event.h"

#include <nlohmann/json.hpp>

namespace mayfly {
namespace {

using EventJson = nlohmann::ordered_json;

std::string dumped(const EventJson& json) {
  return json.dump(-1, ' ', false, EventJson::error_handler_t::replace);
}

EventJson headers_json(const EventHeaders& headers) {
  EventJson list = EventJson::array();
  for (const auto& [name, value] : headers) list.push_back({name, value});
  return list;
}

std::unexpected<Error> damaged() {
  return fail(Code::DataLoss, "what is kept of an event is damaged");
}

// The node wrote it itself: what does not fit is damage, whatever it is.
template <typename Read>
auto read_kept(std::string_view text, Read read) -> Result<decltype(read(EventJson()))> {
  try {
    return read(EventJson::parse(text));
  } catch (const EventJson::exception&) {
    return damaged();
  }
}

}  // namespace

std::string to_json(const EventRequest& request) {
  return dumped({{"target", request.target},
                 {"headers", headers_json(request.headers)},
                 {"project", request.project},
                 {"caller", request.caller},
                 {"request_id", request.request_id}});
}

Result<EventRequest> parse_event_request(std::string_view json) {
  return read_kept(json, [](const EventJson& kept) {
    return EventRequest{.target = kept.at("target"),
                        .headers = kept.at("headers").get<EventHeaders>(),
                        .project = kept.at("project"),
                        .caller = kept.at("caller"),
                        .request_id = kept.at("request_id")};
  });
}

std::string to_json(const EventReply& reply) {
  return dumped({{"status", reply.status}, {"headers", headers_json(reply.headers)}});
}

Result<EventReply> parse_event_reply(std::string_view json) {
  return read_kept(json, [](const EventJson& kept) {
    return EventReply{.status = kept.at("status"),
                      .headers = kept.at("headers").get<EventHeaders>()};
  });
}

InvocationId invocation_id_of(std::string_view text) {
  InvocationId id;
  std::size_t at = 0;
  for (std::size_t i = 0; i + 1 < text.size() && at < id.bytes.size(); ++i) {
    if (text[i] == '-') continue;
    const auto digit = [](char c) { return c <= '9' ? c - '0' : c - 'a' + 10; };
    id.bytes[at++] = static_cast<std::byte>(digit(text[i]) * 16 + digit(text[i + 1]));
    ++i;
  }
  return id;
}

}  // namespace mayfly
