#include "app/trusted.h"

#include <fmt/format.h>

#include <string>
#include <utility>

#include "core/reason.h"
#include "net/http_client.h"

namespace mayfly {
namespace {

Result<std::vector<TokenIssuer>> issuers_in(const Path& file) {
  const std::string text = TRY(read_file(file));
  std::vector<TokenIssuer> issuers = TRY(parse_issuers(text));
  for (const TokenIssuer& issuer : issuers) {
    if (issuer.has_url()) TRY(parse_url(issuer.jwks));
  }
  return issuers;
}

Result<CertificateMap> certificates_in(const Path& file, const Config& config) {
  if (config.tls_client_ca.empty()) {
    return refuse(reason::kInvalidSetting,
                  "clients show certificates only where server.tls_client_ca is set");
  }
  const std::string text = TRY(read_file(file));
  return CertificateMap::parse(text);
}

}  // namespace

Result<TrustedIdentities> read_trusted(const Config& config) {
  TrustedIdentities trusted;
  if (const Path& file = config.issuers; !file.empty()) {
    auto issuers = issuers_in(file);
    if (!issuers)
      return std::unexpected(std::move(issuers).error().in("identity.issuers: " + file.native()));
    trusted.issuers = *std::move(issuers);
  }
  if (const Path& file = config.certificates; !file.empty()) {
    auto map = certificates_in(file, config);
    if (!map)
      return std::unexpected(std::move(map).error().in("identity.certificates: " + file.native()));
    trusted.certificates = *std::move(map);
  }
  return trusted;
}

}  // namespace mayfly
