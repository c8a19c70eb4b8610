// Internal: OpenSSL's certificates ↔ our values.
#pragma once

#include <openssl/types.h>

#include "net/tls.h"

namespace mayfly {

PeerCertificate describe_certificate(const X509& certificate);

}  // namespace mayfly
