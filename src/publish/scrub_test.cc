#include "publish/scrub.h"

#include <array>
#include <filesystem>
#include <fstream>

#include "async/loop.h"
#include "store/local_blob_store.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

Report report_of_one_file() {
  Report report;
  report.runtime_version = "1.31.1";
  report.signature.inputs = {{"x", DataType::Fp32, {-1}}};
  report.signature.outputs = {{"y", DataType::Fp32, {-1}}};
  report.candidates = {Candidate{}};
  report.files = {{"model.onnx", 5}};
  return report;
}

struct ScrubFixture {
  ScrubFixture() {
    REQUIRE(make_directories(root / "compiled"));
    REQUIRE(make_directories(root / "out"));
  }
  static PrivateKey key() {
    std::array<std::byte, PrivateKey::kBytes> bytes{};
    bytes.back() = std::byte{9};
    return *PrivateKey::create(bytes);
  }
  Digest blob(std::string_view text) {
    auto writer = blobs->create().value();
    REQUIRE(writer->append(std::as_bytes(std::span(text))));
    return writer->commit().value().digest;
  }
  void form(const std::string& name) {
    REQUIRE(write_file_durably(root / "out/model.onnx", "bytes"));
    REQUIRE(forms.install(
        name, {.target = {"1.31.1", "x"}, .report = report_of_one_file(), .out = root / "out"}));
  }
  static void overwrite(const Path& file, std::string_view text) {
    std::filesystem::permissions(file, std::filesystem::perms(0644));
    std::ofstream(file) << text;
  }
  bool is_quarantined(const std::string& name) const {
    return std::filesystem::exists(root / "quarantine" / name);
  }
  Task<void> note(Damage found) {
    damage.push_back(std::move(found));
    co_return;
  }

  TempDir folder = TempDir::create().value();
  Path root = folder.path();
  Loop loop;
  std::unique_ptr<LocalBlobStore> blobs =
      LocalBlobStore::open(root / "blobs", root / "tmp").value();
  CompiledStore forms{root / "compiled", root / "tmp", key()};
  std::vector<Damage> damage;
  Scrub scrub{{.loop = loop,
               .blobs = *blobs,
               .forms = forms,
               .compiled = root / "compiled",
               .quarantine = root / "quarantine"},
              {.every = 24h, .rate = Bytes{0}},
              [this](Damage found) { return note(std::move(found)); }};
};

}  // namespace

TEST_CASE_FIXTURE(ScrubFixture, "what is whole stays where it is") {
  const Digest digest = blob("weights");
  form("aa-1");
  REQUIRE(loop.run(scrub.round({})));
  CHECK(damage.empty());
  CHECK(blobs->find(digest).value().has_value());
  CHECK(forms.has("aa-1").value());
  CHECK(scrub.counts().rounds == 1);
  CHECK(scrub.counts().bytes > 12);
}

TEST_CASE_FIXTURE(ScrubFixture,
                  "a blob that lost a bit goes into quarantine, and can be stored anew") {
  const Digest good = blob("good");
  const Digest digest = blob("weights");
  overwrite(blobs->path_of(digest), "wEights");
  REQUIRE(loop.run(scrub.round({})));
  REQUIRE(damage.size() == 1);
  CHECK(damage[0].kind == Damage::Kind::Blob);
  CHECK(damage[0].name == to_string(digest));
  CHECK(damage[0].why.contains(to_string(sha256("wEights"))));
  CHECK(scrub.counts().damaged_blobs == 1);
  CHECK_FALSE(blobs->find(digest).value().has_value());
  CHECK(blobs->find(good).value().has_value());
  CHECK(is_quarantined("blob-" + to_string(digest)));
  CHECK(blob("weights") == digest);
  REQUIRE(loop.run(scrub.round({})));
  CHECK(damage.size() == 1);
}

TEST_CASE_FIXTURE(ScrubFixture, "a form whose bytes were changed under its identity is found") {
  form("aa-1");
  form("bb-1");
  // As a disk does it: neither size nor time tell.
  const Path file = root / "compiled/aa-1/model.onnx";
  const auto time = std::filesystem::last_write_time(file);
  overwrite(file, "BYTES");
  std::filesystem::last_write_time(file, time);
  CHECK(forms.has("aa-1").value());
  REQUIRE(loop.run(scrub.round({})));
  REQUIRE(damage.size() == 1);
  CHECK(damage[0].kind == Damage::Kind::Form);
  CHECK(damage[0].name == "aa-1");
  CHECK(damage[0].why.contains("model.onnx"));
  CHECK(is_quarantined("form-aa-1"));
  CHECK_FALSE(forms.has("aa-1").value());
  CHECK(forms.has("bb-1").value());
  // The next one of the same name takes its place.
  form("aa-1");
  overwrite(file, "BYTES");
  REQUIRE(loop.run(scrub.round({})));
  CHECK(scrub.counts().damaged_forms == 2);
}

TEST_CASE_FIXTURE(ScrubFixture, "a form without the node's record goes into quarantine") {
  form("aa-1");
  std::filesystem::remove(root / "compiled/aa-1/seal.json");
  REQUIRE(loop.run(scrub.round({})));
  REQUIRE(damage.size() == 1);
  CHECK(is_quarantined("form-aa-1"));
}

TEST_CASE_FIXTURE(ScrubFixture, "a round that is stopped ends at once, and takes nothing away") {
  blob("weights");
  CancelSource stop;
  stop.cancel();
  const Status ended = loop.run(scrub.round(stop.token()));
  REQUIRE_FALSE(ended.has_value());
  CHECK(ended.error().code == Code::Cancelled);
  CHECK(damage.empty());
  CHECK(scrub.counts().rounds == 0);
}
