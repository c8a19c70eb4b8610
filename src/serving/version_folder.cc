#include "serving/version_folder.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/reason.h"

namespace mayfly {

SignedFolder version_folder(std::string_view name, const Manifest& manifest,
                            const std::optional<VersionTraining>& training) {
  SignedFolder folder{.name = std::string(name),
                      .files = {},
                      .ignored = {std::string(kFolderReadme), std::string(kFolderSignature)}};
  const std::string json = to_json(manifest);
  folder.files.push_back(
      {.path = std::string(kFolderManifest), .sha256 = sha256_hex(json), .size = json.size()});
  for (const ArtifactFile& file : manifest.files) {
    folder.files.push_back(file);
    folder.files.back().path = fmt::format("{}{}", kFolderModel, file.path);
  }
  if (training) {
    folder.files.push_back({.path = std::string(kFolderTraining),
                            .sha256 = to_string(training->record),
                            .size = training->size});
  }
  return folder;
}

std::string folder_readme(std::string_view name, std::uint32_t version, const Manifest& manifest,
                          std::string_view key) {
  std::string text = fmt::format(
      "# {}, version {}\n\n"
      "Exported by Mayfly. `model/` holds the files as they were deployed, `manifest.json` its\n"
      "options, inputs and outputs.\n\n"
      "## Run it\n\n"
      "With Mayfly:\n\n"
      "    mayfly import {} .{}\n",
      name, version, name, key.empty() ? " --unsigned" : "");
  if (is_python(manifest.options)) {
    text +=
        "\nIt is a Python function: `model/` is a folder with the handler that `manifest.json` "
        "names.\n";
  } else {
    text += "\nWithout it: the model is ONNX, in `model/`; any ONNX runtime loads it.\n";
  }
  text += "\n## Who vouches for it\n\n";
  if (key.empty()) return text + "Nobody: the folder is not signed.\n";
  return text +
         fmt::format(
             "`model.sig` is a signature in the format of OpenSSF Model Signing v1 over\n"
             "every file here but this one, made with the key whose id (SHA-256 of\n"
             "its PEM) is\n\n    {}\n\n"
             "Get that key from whom you trust, not from whoever gave you this folder, and then,\n"
             "with the Python package `model-signing`:\n\n"
             "    model_signing verify key . --signature model.sig --public_key KEY.pem\n\n"
             "or, in Mayfly, which refuses to import what a project does not trust:\n\n"
             "    mayfly signing-key trust NAME KEY.pem\n\n"
             "This README is not signed.\n",
             key);
}

Result<Manifest> read_version_folder(const std::vector<ArtifactFile>& files,
                                     std::string_view text) {
  Manifest manifest = TRY(parse_manifest(text));
  std::vector<ArtifactFile> inside;
  for (const ArtifactFile& file : files) {
    if (file.path == kFolderManifest || file.path == kFolderTraining) continue;
    if (!file.path.starts_with(kFolderModel)) {
      return refuse(reason::kInvalidManifest,
                    fmt::format("'{}' has no place in an exported folder", file.path));
    }
    inside.push_back(file);
    inside.back().path.erase(0, kFolderModel.size());
  }
  std::ranges::sort(inside, {}, &ArtifactFile::path);
  if (inside != manifest.files) {
    return refuse(reason::kInvalidManifest,
                  "manifest.json lists other files, or other bytes, than lie in model/");
  }
  return manifest;
}

}  // namespace mayfly
