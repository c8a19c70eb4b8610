// OpenSSF Model Signing v1: a detached signature over every file of a folder, as
// github.com/sigstore/model-transparency writes and reads it with bare keys. A sigstore bundle:
//
//   {"mediaType": "application/vnd.dev.sigstore.bundle.v0.3+json",
//    "verificationMaterial": {"publicKey": {"hint": ID OF THE KEY}, "tlogEntries": []},
//    "dsseEnvelope": {…}}                                             signing/envelope.h
//
// around an in-toto statement:
//
//   {"_type": "https://in-toto.io/Statement/v1",
//    "subject": [{"name": NAME, "digest": {"sha256": over the digests below, in their order}}],
//    "predicateType": "https://model_signing/signature/v1.0",
//    "predicate": {"serialization": {"method": "files", "hash_type": "sha256",
//                                    "allow_symlinks": false, "ignore_paths": […]},
//                  "resources": [{"name": PATH, "algorithm": "sha256", "digest": HEX}, …]}}
//
// Values: bytes in, messages out, no I/O.
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "core/manifest.h"
#include "signing/envelope.h"
#include "signing/signing_key.h"

namespace mayfly {

struct SignedFolder {
  std::string name;
  std::vector<ArtifactFile> files;   // by path; sizes are not signed: 0
  std::vector<std::string> ignored;  // paths that may lie beside them
};

inline constexpr std::size_t kMaxSignature = std::size_t{16} << 20;

// The bundle's JSON.
std::string sign_folder(const SignedFolder& folder, const PrivateKey& key);

class ModelSignature {
 public:
  // invalid_signature, which says what is not as it must be. What the format allows and is not
  // taken: certificates, keyless signatures, shards, other hashes than SHA-256.
  static Result<ModelSignature> parse(std::string_view bundle);

  const std::string& key_hint() const { return hint_; }  // empty: it does not say
  // What `key` signed; paths are relative and stay in the folder, none stands twice.
  // invalid_signature.
  Result<SignedFolder> open(const PublicKey& key) const;

 private:
  std::string hint_;
  Envelope envelope_;
};

// Whether `files` are those that were signed, neither more nor fewer; invalid_signature names the
// first that differs.
Status check_files(const SignedFolder& folder, const std::vector<ArtifactFile>& files);

}  // namespace mayfly
