#include "gateway/webhook_sender.h"

#include <fmt/format.h>

#include <chrono>
#include <utility>

#include "core/project.h"
#include "core/reason.h"
#include "core/version.h"
#include "events/event.h"
#include "gateway/access.h"
#include "gateway/event_api.h"
#include "gateway/webhook_letter.h"
#include "identity/webhook_signature.h"

namespace mayfly {
namespace {

Telling failed_telling(const Error& error) {
  const Told told = error.reason == reason::kDraining ? Told::CutOff : Told::Failed;
  return {.told = told, .error = error.message};
}

Headers webhook_headers(const WebhookMessage& message, const WebhookKeys& keys) {
  std::string signatures = sign_webhook(keys.current, message);
  if (!keys.previous.empty()) signatures += " " + sign_webhook(keys.previous, message);
  Headers headers;
  headers.add("Content-Type", "application/json");
  headers.add("User-Agent", fmt::format("mayfly/{}", kVersion));
  headers.add("webhook-id", message.id);
  headers.add("webhook-timestamp", std::to_string(message.timestamp));
  headers.add("webhook-signature", signatures);
  return headers;
}

}  // namespace

WebhookSender::WebhookSender(Parts parts, std::size_t threads)
    : parts_(parts), pool_(parts_.loop, "webhooks", threads) {}

Task<Telling> WebhookSender::tell(Delivery delivery) {
  auto destination = parse_destination(delivery.destination);
  if (!destination) co_return Telling{.told = Told::Refused, .error = destination.error().message};
  auto item = co_await parts_.events.find(delivery.key.item);
  if (!item) co_return failed_telling(item.error());
  auto result = co_await parts_.events.result_up_to(*item, kResultInLetter);
  // Bytes that are missing do not keep the end from being told.
  const std::optional<std::string> body = result ? *std::move(result) : std::nullopt;
  std::string letter = webhook_letter(delivery, *item, body);
  if (destination->is_function()) {
    co_return co_await tell_function(std::move(delivery), *std::move(item),
                                     std::move(destination->function), std::move(letter));
  }
  co_return co_await post(std::move(delivery), std::move(destination->url), std::move(letter));
}

Task<Telling> WebhookSender::tell_function(Delivery delivery, WorkItem item, std::string function,
                                           std::string letter) {
  if (delivery.depth >= kMostDepth) {
    co_return Telling{.told = Told::Refused,
                      .error = fmt::format("{} functions have told each other: this looks like a "
                                           "loop, and ends here",
                                           kMostDepth)};
  }
  const std::string project(project_of(delivery.lane));
  const auto resolved = parts_.catalog.resolve(qualified_name(project, function), "");
  if (!resolved) {
    co_return Telling{.told = Told::Failed,
                      .error = without_project(project, resolved.error().message)};
  }
  EventRequest request{.target = "/functions/" + function,
                       .headers = {{"Content-Type", "application/json"}},
                       .project = project,
                       .caller = "",
                       .request_id = ""};
  if (const auto first = parse_event_request(item.spec.detail)) {
    request.caller = first->caller;
    request.request_id = first->request_id;
  }
  EventEngine::Submission submission =
      event_submission(request, resolved->function->name.str(), *resolved->function->settings);
  submission.payload = std::move(letter);
  submission.notices.depth = delivery.depth + 1;
  submission.told_by = delivery.key;
  const auto accepted = co_await parts_.events.accept(std::move(submission));
  if (accepted) co_return Telling{.told = Told::Settled, .error = ""};
  co_return failed_telling(accepted.error());
}

Task<Telling> WebhookSender::post(Delivery delivery, WebUrl url, std::string letter) {
  const std::string project(project_of(delivery.lane));
  const auto sent = co_await pool_.run([&]() -> Result<GuardedClient::Reply> {
    const WebhookKeys keys = TRY(parts_.secrets.webhook_keys(project));
    const std::string id = to_string(delivery.key);
    const auto now = std::chrono::floor<std::chrono::seconds>(parts_.loop.clock().wall_now());
    const WebhookMessage message{
        .id = id, .timestamp = now.time_since_epoch().count(), .body = letter};
    return parts_.client.send(
        {.method = "POST", .url = url, .headers = webhook_headers(message, keys), .body = letter});
  });
  if (sent) co_return told_by(sent->status);
  co_return failed_telling(sent.error());
}

}  // namespace mayfly
