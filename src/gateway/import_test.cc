#include "gateway/import.h"

#include <fmt/format.h>

#include <filesystem>
#include <fstream>

#include "base/testing/fake_clock.h"
#include "core/reason.h"
#include "core/signing_reason.h"
#include "serving/version_folder.h"
#include "store/local_blob_store.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

Manifest model_manifest() {
  Manifest manifest;
  manifest.options.model = "model.onnx";
  manifest.options.threads = 2;
  manifest.files = {{.path = "model.onnx", .sha256 = sha256_hex("weights"), .size = 7}};
  manifest.signature.inputs = {{"x", DataType::Fp32, {-1}}};
  manifest.signature.outputs = {{"y", DataType::Fp32, {-1}}};
  return manifest;
}

struct ImportFixture {
  std::string store(std::string_view text) {
    auto writer = blobs->create().value();
    REQUIRE(writer->append(std::as_bytes(std::span(text))));
    return to_string(writer->commit().value().digest);
  }
  // The folder of an export, uploaded, and its signature as `project` makes it.
  ImportWish exported(const Manifest& manifest, const char* project = "team",
                      const std::string& record = "") {
    store(to_json(manifest));
    std::optional<VersionTraining> training;
    if (!record.empty())
      training = {.record = parse_digest(store(record)).value(), .size = record.size()};
    const SignedFolder whole = version_folder("fraud", manifest, training);
    files = whole.files;
    return {.signature = store(keys->sign(project, whole).value().bundle)};
  }
  Result<Import> take(const ImportWish& wish) {
    return take_import(wish, {.project = "team", .files = files, .options = {}}, *blobs, *keys);
  }
  void check_refused(const ImportWish& wish, std::string_view slug, std::string_view words) {
    const auto import = take(wish);
    REQUIRE_FALSE(import.has_value());
    CAPTURE(import.error().message);
    CHECK(import.error().reason == slug);
    CHECK(import.error().message.contains(words));
  }

  TempDir folder = TempDir::create().value();
  Path root = folder.path();
  FakeClock clock;
  SystemRng rng;
  std::unique_ptr<LocalBlobStore> blobs =
      LocalBlobStore::open(root / "blobs", root / "tmp").value();
  std::unique_ptr<SecretStore> secrets =
      SecretStore::open(root / "identity.db", root / "secrets.key", clock, rng).value();
  std::unique_ptr<SigningKeyStore> keys =
      SigningKeyStore::open(root / "identity.db", *secrets, clock, rng).value();
  std::vector<ArtifactFile> files;
};

}  // namespace

TEST_CASE_FIXTURE(ImportFixture, "an exported folder brings its options, and who signed it") {
  const Import import = take(exported(model_manifest())).value();
  CHECK(import.vouched);
  CHECK(import.options.threads == 2);
  CHECK(import.files == model_manifest().files);
  const Json shown = provenance_json({.signature = {}, .key = {}, .origin = import.origin}, {});
  CHECK_FALSE(shown["signed"].get<bool>());
  CHECK(shown["imported"]["name"] == "fraud");
  CHECK(shown["imported"]["key"] == keys->list("team").value()[0].id);
}

TEST_CASE_FIXTURE(ImportFixture, "how a version was trained comes with it, signed, or not at all") {
  const std::string record = R"({"format":1,"task":"binary"})";
  const ImportWish wish = exported(model_manifest(), "team", record);
  const Import import = take(wish).value();
  REQUIRE(import.training.has_value());
  CHECK(import.training->record == sha256(record));
  CHECK(import.training->job.empty());
  CHECK(import.training->data.empty());
  CHECK(import.files == model_manifest().files);
  CHECK_FALSE(take(exported(model_manifest()))->training.has_value());
  const std::string forged = R"({"format":1,"task":"other"})";
  std::ignore = exported(model_manifest(), "team", record);
  files.back().sha256 = store(forged);
  check_refused(wish, reason::kInvalidSignature, "training.json");
  check_refused(exported(model_manifest(), "team", "[1]"), reason::kInvalidManifest,
                "no training record");
}

TEST_CASE_FIXTURE(ImportFixture, "a manifest must list what was signed beside it") {
  const ImportWish wish = exported(model_manifest());
  Manifest other = model_manifest();
  other.files[0].sha256 = sha256_hex("others");
  SignedFolder mixed = version_folder("fraud", model_manifest());
  mixed.files[0] = version_folder("fraud", other).files[0];  // the manifest
  store(to_json(other));
  files = mixed.files;
  const ImportWish forged{.signature = store(keys->sign("team", mixed).value().bundle)};
  check_refused(forged, reason::kInvalidManifest, "manifest.json lists other files");
  check_refused(wish, reason::kInvalidSignature, "'manifest.json' does not have the bytes");
  files.erase(files.begin());
  check_refused({.signature = {}, .unsigned_ok = true}, reason::kInvalidManifest,
                "no manifest.json");
}

TEST_CASE_FIXTURE(ImportFixture, "--unsigned takes strangers, and nothing that was altered") {
  ImportWish wish = exported(model_manifest(), "strangers");
  check_refused(wish, reason::kUntrustedSigner, "does not trust");
  wish.unsigned_ok = true;
  const Import import = take(wish).value();
  CHECK_FALSE(import.vouched);
  const Json origin = Json::parse(import.origin);
  CHECK(origin["unsigned"] == true);
  CHECK(origin["refused"].get<std::string>().contains("does not trust"));

  wish = exported(model_manifest());
  wish.unsigned_ok = true;
  files[1].sha256 = sha256_hex("others");
  check_refused(wish, reason::kInvalidSignature, "model/model.onnx");
  check_refused({}, reason::kUntrustedSigner, "--unsigned");
}

TEST_CASE_FIXTURE(ImportFixture, "options that a disk has changed are not those that were signed") {
  const ImportWish wish = exported(model_manifest());
  const Path blob = blobs->path_of(*parse_digest(files[0].sha256));
  std::string text = read_file(blob).value();
  text.replace(text.find("\"threads\":2"), 11, "\"threads\":9");
  std::filesystem::permissions(blob, std::filesystem::perms(0644));
  std::ofstream(blob) << text;
  check_refused(wish, reason::kDigestMismatch, "damaged");
}

TEST_CASE("what a deploy says of an import is read strictly") {
  CHECK(parse_import(Json::object()).value().exported);
  CHECK_FALSE(parse_import(Json{{"layout", "files"}}).value().exported);
  for (const Json& wrong : {Json("x"), Json{{"layout", "tar"}}, Json{{"signature", "abc"}},
                            Json{{"unsigned", 1}}, Json{{"key", "x"}}}) {
    const auto wish = parse_import(wrong);
    REQUIRE_FALSE(wish.has_value());
    CHECK(wish.error().reason == reason::kInvalidManifest);
  }
}
