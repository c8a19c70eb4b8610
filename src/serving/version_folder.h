// A version as a folder that can be carried elsewhere, by `mayfly export` and `mayfly import`:
//
//   manifest.json    what it is: options, files, signature of its inputs and outputs
//   model/…          the artifact's files, by their paths
//   training.json    how it was trained (lineage/training_record.h); absent: that is not known
//   model.sig        who vouches for all of these (signing/model_signature.h); absent: nobody
//   README.md        for people; not signed
//
// Values.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "core/manifest.h"
#include "registry/registry_db.h"
#include "signing/model_signature.h"

namespace mayfly {

inline constexpr std::string_view kFolderManifest = "manifest.json";
inline constexpr std::string_view kFolderModel = "model/";
inline constexpr std::string_view kFolderTraining = "training.json";
inline constexpr std::string_view kFolderSignature = "model.sig";
inline constexpr std::string_view kFolderReadme = "README.md";
inline constexpr std::size_t kMaxFolderManifest = std::size_t{8} << 20;

// Its files, as they are signed. `name`: the function's, without its project.
// `training`: its record.
SignedFolder version_folder(std::string_view name, const Manifest& manifest,
                            const std::optional<VersionTraining>& training = std::nullopt);

// What README.md says. `key`: id of the key that signed; empty: nobody did.
std::string folder_readme(std::string_view name, std::uint32_t version, const Manifest& manifest,
                          std::string_view key);

// The manifest of a folder whose files are `files`; what it lists must be exactly what lies there,
// beside a training record.
// invalid_manifest.
Result<Manifest> read_version_folder(const std::vector<ArtifactFile>& files,
                                     std::string_view manifest);

}  // namespace mayfly
