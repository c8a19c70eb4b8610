#include "gateway/webhook_letter.h"

#include <fmt/format.h>

#include <algorithm>
#include <string_view>

#include "core/json_reader.h"
#include "core/project.h"
#include "core/units.h"
#include "events/event.h"
#include "gateway/access.h"
#include "net/http.h"

namespace mayfly {
namespace {

std::string_view header_of(const EventHeaders& headers, std::string_view name) {
  const auto found = std::ranges::find_if(
      headers, [&](const auto& header) { return equals_ignoring_case(header.first, name); });
  return found == headers.end() ? std::string_view() : found->second;
}

// Whether it may stand in the letter as it is: its text is spliced in, so that numbers stay what
// they are and no nesting is walked.
bool is_json(const EventHeaders& headers, const std::string& body) {
  return header_of(headers, "Content-Type").starts_with("application/json") &&
         nlohmann::json::accept(body);
}

void add_reply(Json& data, const Delivery& delivery, const WorkItem& item) {
  if (delivery.end != WorkState::Done || !item.result) return;
  const auto reply = parse_event_reply(item.result->detail);
  if (!reply) return;
  data["status"] = reply->status;
  if (const auto version = header_of(reply->headers, "Mayfly-Version"); !version.empty())
    data["version"] = version;
  data["result_path"] = fmt::format("/api/v1/events/{}", delivery.key.item);
}

}  // namespace

std::string webhook_letter(const Delivery& delivery, const WorkItem& item,
                           const std::optional<std::string>& result) {
  Json data{{"event", delivery.key.item},
            {"function", local_name(delivery.lane)},
            {"state", to_string(delivery.end)},
            {"attempts", delivery.item_attempts},
            {"accepted", format_time(item.spec.accepted)},
            {"ended", format_time(delivery.ended)}};
  if (const auto request = parse_event_request(item.spec.detail))
    data["request_id"] = request->request_id.empty() ? item.spec.id : request->request_id;
  if (!delivery.reason.empty()) {
    data["reason"] = delivery.reason;
    data["error"] = without_project(project_of(delivery.lane), delivery.message);
  }
  add_reply(data, delivery, item);
  const Json letter{{"type", fmt::format("event.{}", to_string(delivery.end))},
                    {"timestamp", format_time(delivery.ended)},
                    {"data", std::move(data)}};
  std::string text = letter.dump(-1, ' ', false, Json::error_handler_t::replace);
  const bool has_result = delivery.end == WorkState::Done && item.result && result;
  if (!has_result || result->size() > kResultInLetter) return text;
  const auto reply = parse_event_reply(item.result->detail);
  if (!reply || !is_json(reply->headers, *result)) return text;
  // Behind the last of `data`: "}}" ends it and the letter.
  text.resize(text.size() - 2);
  return fmt::format("{},\"result\":{}}}}}", text, *result);
}

Telling told_by(int status) {
  if (status >= 200 && status < 300) return {.told = Told::Delivered, .error = ""};
  std::string error = fmt::format("it answered {}", status);
  if (status >= 300 && status < 400) error += ": redirects are not followed";
  return {.told = status == 410 ? Told::Refused : Told::Failed, .error = std::move(error)};
}

}  // namespace mayfly
