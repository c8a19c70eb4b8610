// What a deploy says of a folder that comes from elsewhere, and what the node makes of it.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "core/json_reader.h"
#include "core/manifest.h"
#include "identity/signing_key_store.h"
#include "registry/registry_db.h"
#include "store/blob_store.h"

namespace mayfly {

// "imported" in the body of a deploy:
//
//   {"layout": "export" | "files", "signature": SHA-256 of an uploaded model.sig, "unsigned": BOOL}
//
// `export`: the files are a folder that was exported, and its manifest says what they are. `files`:
// any others, of which the deploy says it. The signature is over the files by the paths they have.
struct ImportWish {
  bool exported = true;
  std::string signature;     // empty: there is none
  bool unsigned_ok = false;  // taken although nobody whom the project trusts vouches for it
};
Result<ImportWish> parse_import(const Json& json);

struct Import {
  std::vector<ArtifactFile> files;  // as the version has them
  VersionOptions options;
  std::string origin;                            // JSON, registry's Provenance
  std::optional<VersionTraining> training = {};  // of an exported folder that has its record
  bool vouched = false;
};
struct ImportSource {
  std::string_view project;
  const std::vector<ArtifactFile>& files;
  const VersionOptions& options;
};
// Blocking. invalid_signature, untrusted_signer, invalid_manifest.
Result<Import> take_import(const ImportWish& wish, const ImportSource& source,
                           const BlobStore& blobs, SigningKeyStore& keys);

// Who vouches for a version, as the API shows it. `keys`: the project's.
Json provenance_json(const Provenance& provenance, const std::vector<SigningKeyRow>& keys);

}  // namespace mayfly
