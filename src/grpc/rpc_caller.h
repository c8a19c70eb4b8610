// Who sends a call: what it shows, as over HTTP. Loop thread.
#pragma once

#include "base/result.h"
#include "gateway/callers.h"
#include "grpc/rpc.h"
#include "identity/principal.h"

namespace mayfly {

// As Callers::who and Callers::still. unauthenticated also where the client's certificate has ended
// since its connection began, which a resumed session may outlive.
Result<PrincipalRef> who_calls(Callers& callers, const Rpc& rpc);
Result<PrincipalRef> who_still_calls(Callers& callers, const Rpc& rpc);

}  // namespace mayfly
