#include "grpc/rpc_caller.h"

#include "core/caller_reason.h"
#include "core/reason.h"
#include "net/tls.h"

namespace mayfly {
namespace {

using Ask = Result<PrincipalRef> (Callers::*)(const Credentials&);

Result<PrincipalRef> ask(Callers& callers, const Rpc& rpc, Ask who) {
  const std::string pem = rpc.client_certificate();
  std::optional<PeerCertificate> certificate;
  if (!pem.empty()) {
    certificate = parse_peer_certificate(pem);
    if (!certificate)
      return refuse(reason::kUnauthenticated, "the client's certificate has expired");
  }
  return (callers.*who)({.authorization = rpc.metadata("authorization"),
                         .certificate = certificate ? &*certificate : nullptr});
}

}  // namespace

Result<PrincipalRef> who_calls(Callers& callers, const Rpc& rpc) {
  return ask(callers, rpc, &Callers::who);
}

Result<PrincipalRef> who_still_calls(Callers& callers, const Rpc& rpc) {
  return ask(callers, rpc, &Callers::still);
}

}  // namespace mayfly
