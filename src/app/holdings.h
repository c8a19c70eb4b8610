// What projects have on this node, gathered when it starts. Blocking.
#pragma once

#include <vector>

#include "base/clock.h"
#include "base/result.h"
#include "identity/blob_owners.h"
#include "meter/ledger.h"
#include "registry/registry.h"
#include "serving/quota_gate.h"
#include "store/blob_store.h"

namespace mayfly {

// Whose the blobs are that versions are made of.
Result<std::vector<OwnedBlob>> blobs_by_project(Registry& registry, const BlobStore& blobs);

// By project, in GB-seconds as the bill counts them.
Result<QuotaGate::Used> used_this_month(const Ledger& ledger, const Clock& clock);

}  // namespace mayfly
