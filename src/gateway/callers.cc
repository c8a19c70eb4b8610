#include "gateway/callers.h"

#include <utility>

#include "base/log.h"
#include "core/caller_reason.h"
#include "core/names.h"
#include "core/project.h"
#include "core/reason.h"
#include "identity/jwt.h"
#include "net/http.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr Duration kWriteUses = 5s;
constexpr Duration kWriteDropped = 10s;
constexpr std::string_view kBearer = "Bearer ";

PrincipalRef principal(Principal::Means means, std::string_view name, Scopes scopes) {
  return std::make_shared<const Principal>(Principal{.means = means,
                                                     .project = std::string(kDefaultProject),
                                                     .name = std::string(name),
                                                     .scopes = std::move(scopes)});
}

// The key in the header's value.
std::optional<std::string_view> bearer(std::optional<std::string_view> authorization) {
  const std::string_view given = authorization.value_or("");
  const bool there = given.size() > kBearer.size() &&
                     equals_ignoring_case(given.substr(0, kBearer.size()), kBearer);
  if (!there) return std::nullopt;
  return trim_blanks(given.substr(kBearer.size()));
}

}  // namespace

std::string address_of(std::string_view peer) {
  return std::string(peer.substr(0, peer.rfind(':')));
}

Callers::Callers(Parts parts)
    : parts_(parts),
      keys_(parts.keys.table()),
      nobody_(principal(Principal::Means::Nobody, "", Scopes::all())),
      stranger_(principal(Principal::Means::Key, "", Scopes())),
      owner_(principal(Principal::Means::Socket, "socket", Scopes::parse("admin").value())),
      write_(parts.loop,
             [this] {
               if (!inside_.closed()) parts_.loop.spawn(write_uses());
             }),
      write_dropped_(parts.loop,
                     [this] {
                       if (!inside_.closed()) parts_.loop.spawn(write_dropped());
                     }),
      inside_(parts.loop) {}

Result<PrincipalRef> Callers::who(const Credentials& shown) {
  PrincipalRef who = TRY(still(shown));
  if (who->means != Principal::Means::Key) return who;
  used_.insert_or_assign(std::string(*api_key_id(*bearer(shown.authorization))),
                         parts_.loop.clock().wall_now());
  if (!write_.armed()) write_.arm_in(kWriteUses);
  return who;
}

Result<PrincipalRef> Callers::still(const Credentials& shown) {
  if (!closed()) return nobody_;
  const bool by_certificate =
      !shown.authorization && shown.certificate != nullptr && parts_.certificates != nullptr;
  if (by_certificate) {
    const PeerCertificate& certificate = *shown.certificate;
    if (auto who = parts_.certificates->find(certificate.common_name, certificate.names))
      return who;
  }
  const auto given = bearer(shown.authorization);
  if (!given) {
    return refuse(reason::kUnauthenticated,
                  "this node has keys: send one as \"Authorization: Bearer mayfly_…\"; "
                  "`mayfly key create` makes them");
  }
  if (parts_.issuers != nullptr && looks_like_token(*given)) return parts_.issuers->check(*given);
  return keys_->check(*given, parts_.loop.clock().wall_now());
}

bool Callers::may_learn(std::optional<std::string_view> authorization) const {
  const auto given = bearer(authorization);
  return given && parts_.issuers != nullptr && parts_.issuers->may_learn(*given);
}

Task<void> Callers::learn(std::string authorization) {
  const auto hold = inside_.hold();
  const auto given = bearer(authorization);
  if (hold && given && parts_.issuers != nullptr)
    co_await parts_.issuers->learn(std::string(*given));
}

bool Callers::keep(const AuditEntry& entry) {
  if (entry.outcome == outcome_of({})) return true;
  const bool kept = refusals_.keep(entry.project, entry.who, parts_.loop.now());
  if (!kept && !write_dropped_.armed()) write_dropped_.arm_in(kWriteDropped);
  return kept;
}

Task<void> Callers::audit(AuditEntry entry) {
  if (keep(entry)) co_await write(std::move(entry));
}

void Callers::audit_stranger(AuditEntry entry) {
  if (!inside_.closed() && keep(entry)) parts_.loop.spawn(write(std::move(entry)));
}

Task<void> Callers::write(AuditEntry entry) {
  const auto hold = inside_.hold();
  entry.time = parts_.loop.clock().wall_now();
  const Status written = co_await parts_.pool.run([&] { return parts_.audit.append(entry); });
  if (written) co_return;
  LOG(error, "the audit log cannot be written", {"error", written.error().message},
      {"action", entry.action}, {"subject", entry.subject}, {"who", entry.who});
}

Task<void> Callers::write_dropped() {
  const auto hold = inside_.hold();
  for (const RefusalLimit::Dropped& dropped : refusals_.collect()) {
    AuditEntry entry{.project = dropped.project,
                     .who = dropped.who,
                     .from = {},
                     .action = "refusals",
                     .subject = std::to_string(dropped.count),
                     .outcome = "not_kept"};
    co_await write(std::move(entry));
  }
}

Task<void> Callers::write_uses() {
  const auto hold = inside_.hold();
  const auto used = std::exchange(used_, {});
  if (used.empty()) co_return;
  const Status written = co_await parts_.pool.run([&] { return parts_.keys.mark_used(used); });
  if (!written) LOG(warn, "last uses of keys not kept", {"error", written.error().message});
}

Task<void> Callers::close() {
  write_.cancel();
  write_dropped_.cancel();
  co_await write_uses();
  co_await write_dropped();
  co_await inside_.close();
}

}  // namespace mayfly
