#include "gateway/secret_api.h"

#include <fmt/format.h>
#include <fmt/ranges.h>
#include <openssl/crypto.h>

#include <utility>

#include "base/log.h"
#include "core/json_reader.h"
#include "core/project.h"
#include "core/reason.h"
#include "core/units.h"
#include "gateway/body.h"
#include "gateway/control_api.h"

namespace mayfly {
namespace {

constexpr std::size_t kNamedUsers = 5;  // in a message

std::string some_of(const std::vector<std::string>& users) {
  const std::span<const std::string> shown(users.data(), std::min(users.size(), kNamedUsers));
  return fmt::format("{}{}", fmt::join(shown, ", "), users.size() > kNamedUsers ? ", …" : "");
}

// The bytes of the body, without a copy that is left behind.
struct SecretBody {
  std::string text;
  explicit SecretBody(std::string read) : text(std::move(read)) {}
  SecretBody(const SecretBody&) = delete;
  SecretBody& operator=(const SecretBody&) = delete;
  ~SecretBody() { OPENSSL_cleanse(text.data(), text.size()); }
};

}  // namespace

Task<Result<Response>> SecretApi::call(Exchange& exchange, const Route& route) {
  switch (route.endpoint) {
    case Endpoint::SetSecret:
      co_return co_await set(exchange, route);
    case Endpoint::DeleteSecret:
      co_return co_await remove(exchange, route);
    default:
      co_return co_await list(route);
  }
}

Result<SecretApi::Users> SecretApi::users_in(std::string_view project) const {
  Users users;
  const Registry::Snapshot table = parts_.registry.snapshot();
  for (const auto& function : table->all()) {
    if (project_of(function->name.str()) != project) continue;
    for (const VersionEntry& version : function->versions) {
      const auto manifest = TRY(parts_.registry.manifest(version.content->manifest));
      for (const std::string& secret : manifest->options.function.secrets) {
        users[secret].push_back(
            fmt::format("{}@{}", local_name(function->name.str()), version.number.value));
      }
    }
  }
  return users;
}

Task<Result<Response>> SecretApi::list(const Route& route) {
  const std::string project = route.caller->project;
  CO_TRY(const std::vector<SecretRow> rows,
         co_await parts_.pool.run([&] { return parts_.secrets.list(project); }));
  CO_TRY(const Users users, co_await parts_.pool.run([&] { return users_in(project); }));
  Json secrets = Json::array();
  for (const SecretRow& row : rows) {
    const auto used = users.find(row.name);
    secrets.push_back({{"name", row.name},
                       {"changed", format_time(row.changed)},
                       {"changed_by", row.changed_by},
                       {"used_by", used == users.end() ? Json::array() : Json(used->second)}});
  }
  co_return json_response({{"secrets", std::move(secrets)}});
}

Task<Result<Response>> SecretApi::set(Exchange& exchange, const Route& route) {
  const std::string project = route.caller->project;
  CO_TRY_STATUS(check_secret_name(route.version));
  CO_TRY(BodyReader reader, BodyReader::open(exchange, {kMaxSecretBytes}, "64KiB for a secret"));
  CO_TRY(std::string text, co_await reader.read_rest());
  const SecretBody body(std::move(text));
  const std::string who = author_of(exchange, route);
  CO_TRY_STATUS(co_await parts_.pool.run([&] {
    return parts_.secrets.set(
        {.project = project, .name = route.version, .value = body.text, .who = who});
  }));
  parts_.dispatcher.renew(project, route.version);
  LOG(info, "secret set", {"project", project}, {"name", route.version}, {"who", who});
  co_return json_response({{"name", route.version}});
}

Task<Result<Response>> SecretApi::remove(const Exchange& exchange, const Route& route) {
  const std::string project = route.caller->project;
  const bool force = exchange.head().query("force").value_or("") == "true";
  CO_TRY(const Users users, co_await parts_.pool.run([&] { return users_in(project); }));
  if (const auto used = users.find(route.version); !force && used != users.end()) {
    co_return refuse(reason::kConflict,
                     fmt::format("{} is named by {}, which could not start without it; --yes (or "
                                 "?force=true) deletes it all the same",
                                 route.version, some_of(used->second)));
  }
  CO_TRY_STATUS(
      co_await parts_.pool.run([&] { return parts_.secrets.remove(project, route.version); }));
  parts_.dispatcher.renew(project, route.version);
  LOG(info, "secret deleted", {"project", project}, {"name", route.version},
      {"who", author_of(exchange, route)});
  co_return json_response({{"deleted", route.version}});
}

}  // namespace mayfly
