#include "gateway/callers.h"

#include <utility>

#include "base/log.h"
#include "core/caller_reason.h"
#include "core/names.h"
#include "core/project.h"
#include "core/reason.h"
#include "net/http.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr Duration kWriteUses = 5s;
constexpr double kStrangersKept = 5;  // refusals of strangers in the audit log, a second
constexpr std::string_view kBearer = "Bearer ";

PrincipalRef principal(Principal::Means means, std::string_view name, Scopes scopes) {
  return std::make_shared<const Principal>(Principal{.means = means,
                                                     .project = std::string(kDefaultProject),
                                                     .name = std::string(name),
                                                     .scopes = std::move(scopes)});
}

}  // namespace

Callers::Callers(Parts parts)
    : parts_(parts),
      keys_(parts.keys.table()),
      nobody_(principal(Principal::Means::Nobody, "", Scopes::all())),
      stranger_(principal(Principal::Means::Key, "", Scopes())),
      owner_(principal(Principal::Means::Socket, "socket", Scopes::parse("admin").value())),
      strangers_(kStrangersKept, kStrangersKept, parts.loop.now()),
      write_(parts.loop,
             [this] {
               if (!inside_.closed()) parts_.loop.spawn(write_uses());
             }),
      inside_(parts.loop) {}

Result<PrincipalRef> Callers::who(std::optional<std::string_view> authorization) {
  if (!closed()) return nobody_;
  std::string_view given = authorization.value_or("");
  const bool bearer = given.size() > kBearer.size() &&
                      equals_ignoring_case(given.substr(0, kBearer.size()), kBearer);
  if (!bearer) {
    return refuse(reason::kUnauthenticated,
                  "this node has keys: send one as \"Authorization: Bearer mayfly_…\"; "
                  "`mayfly key create` makes them");
  }
  given = trim_blanks(given.substr(kBearer.size()));
  const WallTime now = parts_.loop.clock().wall_now();
  const PrincipalRef who = TRY(keys_->check(given, now));
  used_.insert_or_assign(std::string(*api_key_id(given)), now);
  if (!write_.armed()) write_.arm_in(kWriteUses);
  return who;
}

Task<void> Callers::audit(AuditEntry entry) {
  const auto hold = inside_.hold();
  entry.time = parts_.loop.clock().wall_now();
  const Status written = co_await parts_.pool.run([&] { return parts_.audit.append(entry); });
  if (written) co_return;
  LOG(error, "the audit log cannot be written", {"error", written.error().message},
      {"action", entry.action}, {"subject", entry.subject}, {"who", entry.who});
}

void Callers::audit_stranger(AuditEntry entry) {
  if (inside_.closed() || !strangers_.take(parts_.loop.now())) return;
  parts_.loop.spawn(audit(std::move(entry)));
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
  co_await write_uses();
  co_await inside_.close();
}

}  // namespace mayfly
