#include "gateway/import.h"

#include <fmt/format.h>

#include <algorithm>

#include "core/reason.h"
#include "core/signing_reason.h"
#include "lineage/training_record.h"
#include "serving/version_folder.h"

namespace mayfly {
namespace {

Result<std::string> blob_text(const BlobStore& blobs, const std::string& name, std::size_t limit) {
  const auto digest = parse_digest(name);
  if (!digest) return refuse(reason::kInvalidManifest, "imported: 'signature' is no SHA-256");
  const Fd file = TRY(blobs.open(*digest));
  std::string text = TRY(read_all_fd(file.get(), limit));
  if (sha256(text) == *digest) return text;
  return refuse(reason::kDigestMismatch,
                fmt::format("the node's copy of {} is damaged; the scrub removes it, then upload "
                            "it again",
                            name));
}

// What was found out about who vouches for the files, or why they are not taken.
Status judge(const ImportWish& wish, const ImportSource& source, const BlobStore& blobs,
             SigningKeyStore& keys, Json& origin) {
  if (wish.signature.empty()) {
    if (wish.unsigned_ok) return {};
    return refuse(reason::kUntrustedSigner,
                  "the folder is not signed; --unsigned takes it all the same, and the version "
                  "says so");
  }
  const std::string bundle = TRY(blob_text(blobs, wish.signature, kMaxSignature));
  auto verified = keys.verify(source.project, bundle);
  if (!verified) {
    const bool stranger = verified.error().reason == reason::kUntrustedSigner;
    if (!stranger || !wish.unsigned_ok) return std::unexpected(std::move(verified).error());
    origin["refused"] = verified.error().message;
    return {};
  }
  TRY(check_files(verified->folder, source.files));
  origin["signer"] = verified->key.name;
  origin["key"] = verified->key.id;
  origin["name"] = verified->folder.name;
  return {};
}

}  // namespace

Result<ImportWish> parse_import(const Json& json) {
  ImportWish wish;
  std::string layout = "export";
  JsonReader reader(json, "imported", reason::kInvalidManifest);
  reader.text("layout", layout)
      .text("signature", wish.signature)
      .boolean("unsigned", wish.unsigned_ok);
  if (layout != "export" && layout != "files") reader.error("layout", "is 'export' or 'files'");
  if (!wish.signature.empty() && !parse_digest(wish.signature))
    reader.error("signature", "is the SHA-256 of an uploaded signature");
  TRY(reader.finish());
  wish.exported = layout == "export";
  return wish;
}

Result<Import> take_import(const ImportWish& wish, const ImportSource& source,
                           const BlobStore& blobs, SigningKeyStore& keys) {
  Json origin{{"from", "import"}, {"layout", wish.exported ? "export" : "files"}};
  TRY(judge(wish, source, blobs, keys, origin));
  Import import{.files = source.files, .options = source.options, .origin = {}};
  import.vouched = origin.contains("signer");
  origin["unsigned"] = !import.vouched;
  if (wish.exported) {
    const auto manifest = std::ranges::find(source.files, kFolderManifest, &ArtifactFile::path);
    if (manifest == source.files.end())
      return refuse(reason::kInvalidManifest, "the folder has no manifest.json");
    const std::string text = TRY(blob_text(blobs, manifest->sha256, kMaxFolderManifest));
    Manifest read = TRY(read_version_folder(source.files, text));
    import.files = std::move(read.files);
    import.options = std::move(read.options);
    const auto record = std::ranges::find(source.files, kFolderTraining, &ArtifactFile::path);
    if (record != source.files.end()) {
      const std::string said = TRY(blob_text(blobs, record->sha256, kMaxTrainingRecord));
      TRY(parse_training_record(said));
      import.training =
          VersionTraining{.record = parse_digest(record->sha256).value(), .size = record->size};
    }
  }
  import.origin = origin.dump(-1, ' ', false, Json::error_handler_t::replace);
  return import;
}

Json provenance_json(const Provenance& provenance, const std::vector<SigningKeyRow>& keys) {
  Json json{{"signed", !provenance.key.empty()}};
  if (!provenance.key.empty()) {
    json["key"] = provenance.key;
    const auto key = std::ranges::find(keys, provenance.key, &SigningKeyRow::id);
    if (key != keys.end()) {
      json["signer"] = key->name;
      json["revoked"] = key->revoked.has_value();
    }
  }
  const Json origin = Json::parse(provenance.origin, nullptr, false);
  if (origin.is_object() && !origin.empty()) json["imported"] = origin;
  return json;
}

}  // namespace mayfly
