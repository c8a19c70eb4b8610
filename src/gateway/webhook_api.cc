#include "gateway/webhook_api.h"

#include <fmt/format.h>

#include <string>

#include "base/log.h"
#include "core/destination.h"
#include "core/json_reader.h"
#include "core/project.h"
#include "core/reason.h"
#include "core/units.h"
#include "gateway/access.h"
#include "gateway/control_api.h"
#include "identity/webhook_signature.h"

namespace mayfly {

Status check_destination(std::string_view destination, const Principal& caller,
                         const Catalog& catalog, const EgressPolicy& policy) {
  if (destination.empty()) return {};
  const Destination parsed = TRY(parse_destination(destination));
  if (!parsed.is_function()) {
    const Status may = policy.check_url(parsed.url);
    return may ? Status() : refuse(reason::kInvalidSetting, may.error().message);
  }
  TRY(check_access(caller, Needs::Invoke, parsed.function));
  TRY(catalog.resolve(qualified_name(caller.project, parsed.function), ""));
  return {};
}

Task<Result<Response>> WebhookApi::call(const Exchange& exchange, const Route& route) {
  const std::string project = route.caller->project;
  const std::string who = author_of(exchange, route);
  const bool rotates = route.endpoint == Endpoint::RotateWebhookKey;
  CO_TRY(const WebhookKeys keys, co_await parts_.pool.run([&] {
    return rotates ? parts_.secrets.rotate_webhook_key(project, who)
                   : parts_.secrets.webhook_keys(project);
  }));
  LOG(info, rotates ? "key of webhooks replaced" : "key of webhooks shown", {"project", project},
      {"who", who});
  Json about{{"secret", webhook_key_text(keys.current)}, {"changed", format_time(keys.changed)}};
  if (!keys.previous.empty()) {
    about["previous"] = webhook_key_text(keys.previous);
    about["previous_until"] = format_time(keys.previous_until);
  }
  Response response = json_response(about);
  response.headers.add("Cache-Control", "no-store");
  co_return response;
}

}  // namespace mayfly
