// Whom the node was told to trust besides its own keys: issuers of tokens, clients' certificates.
#pragma once

#include <optional>
#include <vector>

#include "app/config.h"
#include "base/result.h"
#include "identity/certificate_map.h"
#include "identity/token_issuer.h"

namespace mayfly {

struct TrustedIdentities {
  std::vector<TokenIssuer> issuers;
  std::optional<CertificateMap> certificates;

  bool any() const { return !issuers.empty() || certificates.has_value(); }
};

// What the files say that the configuration names; an error names setting and file. Blocks.
Result<TrustedIdentities> read_trusted(const Config& config);

}  // namespace mayfly
