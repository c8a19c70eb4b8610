// The key that a node signs its own records with, in a file of the data folder for its owner only.
#pragma once

#include "base/file.h"
#include "base/result.h"
#include "base/rng.h"
#include "signing/signing_key.h"

namespace mayfly {

// Made when there is none: what was signed with another one is then made again.
Result<PrivateKey> open_node_key(const Path& path, Rng& rng);

}  // namespace mayfly
