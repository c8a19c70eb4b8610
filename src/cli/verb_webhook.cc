// mayfly webhook: the key that receivers of webhooks verify them with.
#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <string>

#include "cli/verbs.h"

namespace mayfly {
namespace {

constexpr std::string_view kWebhookKey = "/api/v1/webhooks/secret";

Status print_webhook_key(const Result<CliJson>& asked, const CliContext& context) {
  if (!asked) return std::unexpected(asked.error());
  if (context.json) {
    print_json(*asked);
    return {};
  }
  fmt::print("{}\n", asked->value("secret", ""));
  if (asked->contains("previous")) {
    fmt::print(stderr, "until {} webhooks are also signed with {}\n",
               asked->value("previous_until", ""), asked->value("previous", ""));
  }
  return {};
}

}  // namespace

void add_webhook_verb(CLI::App& app, CliContext& context) {
  CLI::App* verb =
      app.add_subcommand("webhook", "Show or replace the key that webhooks are signed with");
  verb->require_subcommand(1);
  CLI::App* secret = verb->add_subcommand("secret", "Show the project's key: whsec_…");
  secret->callback([&context] {
    context.outcome = print_webhook_key(context.node().get(std::string(kWebhookKey)), context);
  });
  CLI::App* rotate =
      verb->add_subcommand("rotate", "Make a new key; for a day webhooks are signed with both");
  rotate->callback([&context] {
    context.outcome = print_webhook_key(
        context.node().send("POST", fmt::format("{}/rotate", kWebhookKey), CliJson::object()),
        context);
  });
}

}  // namespace mayfly
