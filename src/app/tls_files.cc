#include "app/tls_files.h"

#include <fmt/chrono.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include <chrono>
#include <utility>

#include "base/log.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr Duration kLookEvery = std::chrono::seconds(5);

std::string date_of(WallTime time) {
  const auto seconds = std::chrono::floor<std::chrono::seconds>(time);
  return fmt::format("{:%Y-%m-%d %H:%M:%S} UTC",
                     fmt::gmtime(std::chrono::system_clock::to_time_t(seconds)));
}

}  // namespace

Result<std::optional<TlsServerFiles>> tls_files_of(const Config& config) {
  if (config.tls_certificate.empty() != config.tls_key.empty()) {
    return refuse(reason::kInvalidSetting,
                  "server.tls_certificate and server.tls_key belong together: set both or none");
  }
  if (config.tls_certificate.empty()) {
    if (config.tls_client_ca.empty()) return std::nullopt;
    return refuse(reason::kInvalidSetting,
                  "server.tls_client_ca needs server.tls_certificate and server.tls_key");
  }
  return TlsServerFiles{.certificate = config.tls_certificate,
                        .key = config.tls_key,
                        .client_ca = config.tls_client_ca};
}

TlsReload::TlsReload(Loop& loop, Pool& pool, Gate& background, TlsServerFiles files, Use use)
    : loop_(loop),
      pool_(pool),
      background_(background),
      files_(std::move(files)),
      use_(std::move(use)),
      seen_(fingerprint(files_)),
      timer_(loop, [this] { loop_.spawn(look(*this, When::Changed)); }) {}

Result<std::unique_ptr<TlsReload>> TlsReload::create(Loop& loop, Pool& pool, Gate& background,
                                                     TlsServerFiles files, Use use) {
  std::unique_ptr<TlsReload> owner(
      new TlsReload(loop, pool, background, std::move(files), std::move(use)));
  Result<TlsContext> context = TlsContext::server(owner->files_);
  if (!context) return std::unexpected(std::move(context).error().in("TLS"));
  owner->take(context);
  owner->timer_.arm_in(kLookEvery);
  return owner;
}

void TlsReload::reload() { loop_.spawn(look(*this, When::Asked)); }

TlsReload::Fingerprint TlsReload::fingerprint(const TlsServerFiles& files) {
  Fingerprint print;
  for (const Path& file : {files.certificate, files.key, files.client_ca}) {
    struct stat about{};
    const bool there = !file.empty() && ::stat(file.c_str(), &about) == 0;
    print += there ? fmt::format("{}:{}:{}:{}.{} ", about.st_dev, about.st_ino, about.st_size,
                                 about.st_mtim.tv_sec, about.st_mtim.tv_nsec)
                   : "none ";
  }
  return print;
}

// The files' state is taken before they are read: what changes meanwhile is seen at the next look.
Task<void> TlsReload::look(TlsReload& self, When when) {
  const auto hold = self.background_.hold();
  if (!hold) co_return;
  struct Found {
    Fingerprint state;
    std::optional<Result<TlsContext>> context;
  };
  const auto read = [files = self.files_, seen = self.seen_, when]() -> Found {
    Found found{.state = fingerprint(files), .context = {}};
    if (when == When::Asked || found.state != seen) found.context = TlsContext::server(files);
    return found;
  };
  Found found = co_await self.pool_.run(read);
  self.seen_ = std::move(found.state);
  if (found.context) self.take(*found.context);
  if (!self.background_.closed()) self.timer_.arm_in(kLookEvery);
}

void TlsReload::take(const Result<TlsContext>& context) {
  if (!context) {
    LOG(error, "the TLS certificate cannot be replaced; the one in use stays",
        {"error", context.error().message});
    return;
  }
  if (context->expires() < loop_.clock().wall_now()) {
    LOG(warn, "the TLS certificate has expired", {"expired", date_of(context->expires())});
  }
  LOG(info, "TLS certificate read", {"file", files_.certificate.native()},
      {"expires", date_of(context->expires())});
  use_(*context);
}

}  // namespace mayfly
