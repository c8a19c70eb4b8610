// What a node knows in secret: what functions are given, the keys of projects, and its own.
#pragma once

#include <memory>

#include "base/clock.h"
#include "base/result.h"
#include "base/rng.h"
#include "identity/secret_store.h"
#include "identity/signing_key_store.h"
#include "signing/signing_key.h"
#include "store/data_dir.h"

namespace mayfly {

struct Vault {
  // `clock` and `rng` outlive it.
  static Result<Vault> open(const DataDir& data, const Clock& clock, Rng& rng);

  std::unique_ptr<SecretStore> secrets;      // what functions may know
  std::unique_ptr<SigningKeyStore> signing;  // who vouches for versions
  // What the node signs its own records with, in a file for its owner only. Made when there is
  // none: what was signed with another one is then made again.
  PrivateKey node_key;
};

}  // namespace mayfly
