#include "remote/s3_blob_store.h"

#include <fcntl.h>

#include <cstdlib>
#include <string>
#include <thread>

#include "core/reason.h"
#include "core/store_reason.h"
#include "remote/blob_origin.h"
#include "remote/s3_credentials.h"
#include "remote/testing/fake_s3.h"
#include "store/testing/blob_store_contract.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

using blob_contract::all;
using blob_contract::bytes_of;
using blob_contract::get;
using blob_contract::put;

// A node's folder and the store it stands before.
struct Rig {
  Rig() = default;
  explicit Rig(std::unique_ptr<S3Client> real) : client(std::move(real)) {}

  Result<std::unique_ptr<S3BlobStore>> try_open(Bytes cache = mib(64)) {
    S3BlobStore::Options options{.root = folder.path() / "blobs",
                                 .tmp = folder.path() / "tmp",
                                 .prefix = prefix,
                                 .cache = cache,
                                 .start_patience = std::chrono::milliseconds(200)};
    options.pinned = [this](const Digest& digest) { return pinned.contains(digest); };
    return S3BlobStore::open(*client, std::move(options), rng);
  }
  std::unique_ptr<S3BlobStore> open(Bytes cache = mib(64)) {
    auto opened = try_open(cache);
    REQUIRE_MESSAGE(opened.has_value(), (opened ? "" : opened.error().message));
    return *std::move(opened);
  }
  std::unique_ptr<LocalBlobStore> local() const {
    return LocalBlobStore::open(folder.path() / "blobs", folder.path() / "tmp").value();
  }
  Path cached(const Digest& digest) const { return local()->path_of(digest); }
  bool is_cached(const Digest& digest) const { return std::filesystem::exists(cached(digest)); }
  std::string key(const Digest& digest) const { return prefix + to_string(digest); }

  TempDir folder = TempDir::create().value();
  SystemRng rng;
  FakeS3 s3;
  std::unique_ptr<S3Client> client = s3.client();
  std::string prefix = "node/blobs/";
  std::set<Digest> pinned;
};

const FakeS3::Fault kBusy{.status = 503, .code = "SlowDown"};

void break_for_good(FakeS3& s3) {
  s3.set_faults([](std::string_view, std::string_view) { return kBusy; });
}

// Of a real server: its address, a bucket that is there, and credentials in the usual variables.
std::unique_ptr<S3Client> real_client(Rng& rng) {
  const char* endpoint = std::getenv("MAYFLY_TEST_S3_ENDPOINT");
  const char* bucket = std::getenv("MAYFLY_TEST_S3_BUCKET");
  if (endpoint == nullptr || bucket == nullptr) return nullptr;
  return S3Client::create(S3Place::create({.endpoint = endpoint}, bucket).value(),
                          {.credentials = [] { return read_s3_credentials({}); }},
                          FakeS3::small_parts(), rng)
      .value();
}

}  // namespace

TEST_CASE("blobs in an object store do what every blob store must") {
  for (const blob_contract::Promise& promise : blob_contract::promises()) {
    CAPTURE(std::string(promise.sentence));
    Rig rig;
    promise.check(*rig.open());
  }
}

TEST_CASE("the same with a cache that keeps nothing") {
  for (const blob_contract::Promise& promise : blob_contract::promises()) {
    CAPTURE(std::string(promise.sentence));
    Rig rig;
    promise.check(*rig.open(Bytes{0}));
  }
}

// Run by tests/e2e/object_store_test.py, which starts the server.
TEST_CASE("blobs in a real object store do what every blob store must") {
  SystemRng rng;
  if (real_client(rng) == nullptr) return;
  for (const Bytes cache : {mib(64), Bytes{0}}) {
    for (const blob_contract::Promise& promise : blob_contract::promises()) {
      CAPTURE(std::string(promise.sentence));
      Rig rig(real_client(rng));
      rig.prefix = "contract/" + std::to_string(rng.next()) + "/";
      const auto store = rig.open(cache);
      promise.check(*store);
      store->await_removals();
    }
  }
  MESSAGE("the contract was held by a real object store");
}

TEST_CASE("a commit is in the store when it returns, and is fetched again when the cache is lost") {
  Rig rig;
  const std::string text(300'000, 'x');
  Digest digest;
  {
    const auto store = rig.open();
    digest = put(*store, text);
    CHECK(rig.s3.object(rig.key(digest)) == text);
    CHECK(rig.is_cached(digest));
  }
  std::filesystem::remove_all(rig.folder.path() / "blobs/sha256");
  const auto store = rig.open();
  CHECK(store->find(digest).value()->size == text.size());
  CHECK(get(*store, digest) == text);
  CHECK(rig.is_cached(digest));
  rig.s3.requests();
  CHECK(get(*store, digest) == text);
  CHECK(rig.s3.requests().empty());
}

TEST_CASE("while the store is away uploads wait, and go on from their end when it is back") {
  Rig rig;
  const auto store = rig.open();
  const Digest kept = put(*store, "cached");
  const Digest expected = sha256("not lost");
  break_for_good(rig.s3);
  {
    auto upload = store->resume(expected).value();
    REQUIRE(upload->append(bytes_of("not lost")).has_value());
    const auto refused = upload->commit();
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().reason == reason::kStoreUnavailable);
  }
  CHECK(store->partial_size(expected).value() == 8);
  CHECK_FALSE(rig.is_cached(expected));
  CHECK(store->find(expected).error().reason == reason::kStoreUnavailable);
  CHECK(get(*store, kept) == "cached");
  CHECK(store->find(kept).value().has_value());
  rig.s3.set_faults({});
  auto again = store->resume(expected).value();
  CHECK(again->offset() == 8);
  CHECK(again->commit().has_value());
  CHECK(rig.s3.object(rig.key(expected)) == "not lost");
}

TEST_CASE("a node begins without its store once its blobs are there, and not before") {
  Rig rig;
  break_for_good(rig.s3);
  CHECK(rig.try_open().error().reason == reason::kStoreUnavailable);
  rig.s3.set_faults({});
  const Digest digest = put(*rig.open(), "cached");
  break_for_good(rig.s3);
  CHECK(get(*rig.open(), digest) == "cached");
}

TEST_CASE("a silent store holds up no start of a node whose blobs are there") {
  Rig rig;
  const Digest digest = put(*rig.open(), "cached");
  rig.s3.requests();
  rig.s3.set_faults([](std::string_view, std::string_view) { return FakeS3::Fault{.hang = true}; });
  CHECK(get(*rig.open(), digest) == "cached");
  CHECK(rig.s3.requests().size() == 1);
  const auto away = rig.client->away();
  REQUIRE(away.has_value());
  CHECK(away->error.find(rig.s3.url()) != std::string::npos);
  rig.s3.set_faults({});
  put(*rig.open(), "answered");
  CHECK_FALSE(rig.client->away().has_value());
}

TEST_CASE("what is asked of a store is counted, and what its cache spares it") {
  Rig rig;
  const auto store = rig.open(Bytes{0});
  const Digest digest = put(*store, "twelve bytes");
  rig.s3.fail_next(1, kBusy);
  CHECK(get(*store, digest) == "twelve bytes");
  rig.s3.set_object("absent", "x");
  rig.s3.remove_object("absent");
  CHECK(rig.client->find("absent").value() == std::nullopt);
  const StoreCounts& counts = rig.client->counts();
  CHECK(counts.misses == 1);
  CHECK(counts.again == 1);
  CHECK(counts.cached == 0);
  CHECK(counts.received >= 12);
  const std::string text = metrics_of(counts, rig.client->away().has_value());
  for (const std::string_view line :
       {"mayfly_object_store_requests_total{kind=\"get\",outcome=\"done\"}",
        "mayfly_object_store_requests_total{kind=\"head\",outcome=\"absent\"}",
        "mayfly_object_store_requests_total{kind=\"head\",outcome=\"busy\"} 1",
        "mayfly_object_store_retries_total 1", "mayfly_object_store_up 1"}) {
    CAPTURE(line);
    CHECK(text.find(line) != std::string::npos);
  }
  CHECK(get(*rig.open(gib(1)), digest) == "twelve bytes");
  CHECK(counts.cached == 12);
}

TEST_CASE("wrong bytes, too many and too few are never taken for a blob") {
  Rig rig;
  const auto store = rig.open(Bytes{0});
  const Digest digest = put(*store, "the right bytes");
  CHECK_FALSE(rig.is_cached(digest));
  for (const char* wrong : {"the wrong bytes", "the right bytes and more", "the right", ""}) {
    CAPTURE(wrong);
    rig.s3.set_object(rig.key(digest), wrong);
    const auto refused = store->open(digest);
    REQUIRE_FALSE(refused.has_value());
    CHECK(refused.error().code == Code::DataLoss);
    CHECK(refused.error().message.find(rig.key(digest)) != std::string::npos);
    CHECK_FALSE(rig.is_cached(digest));
  }
  rig.s3.set_object(rig.key(digest), "the right bytes");
  CHECK(get(*store, digest) == "the right bytes");
  rig.s3.remove_object(rig.key(digest));
  CHECK(store->open(digest).error().code == Code::NotFound);
}

TEST_CASE("a fetch that was cut off goes on after a restart, or begins anew where it was wrong") {
  Rig rig;
  const std::string text = std::string(200'000, 'a') + std::string(200'000, 'b');
  const Digest digest = put(*rig.open(Bytes{0}), text);
  const Digest slot = sha256("fetched " + to_string(digest));
  for (const char* begun : {"aaaa", "xxxx"}) {
    REQUIRE(rig.local()->resume(digest, slot).value()->append(bytes_of(begun)).has_value());
    CHECK(get(*rig.open(Bytes{0}), digest) == text);
    CHECK(rig.local()->partial_size(slot).value() == 0);
  }
}

TEST_CASE("the cache is bounded: what was used last stays, and what is held or pinned") {
  Rig rig;
  const std::string kib100(100 * 1024, 'x');
  const auto store = rig.open(kib(350));
  const Digest first = put(*store, "1" + kib100);
  const Digest second = put(*store, "2" + kib100);
  const Digest third = put(*store, "3" + kib100);
  CHECK(get(*store, first).size() == kib100.size() + 1);
  put(*store, "4" + kib100);
  CHECK(rig.is_cached(first));
  CHECK_FALSE(rig.is_cached(second));
  rig.pinned.insert(first);
  {
    const auto held = store->file(third);
    REQUIRE(held.has_value());
    for (const char* more : {"5", "6", "7", "8"}) put(*store, more + kib100);
    CHECK(rig.is_cached(first));
    CHECK(std::filesystem::exists(held->path));
  }
  for (const char* more : {"a", "b", "c"}) put(*store, more + kib100);
  CHECK_FALSE(rig.is_cached(third));
  CHECK(store->cached() <= kib(350));
  CHECK(all(*store).size() == 11);
  CHECK(get(*store, second).size() == kib100.size() + 1);
}

TEST_CASE("many threads that want one blob fetch it once") {
  Rig rig;
  const Digest digest = put(*rig.open(Bytes{0}), "wanted by many");
  const auto store = rig.open();
  rig.s3.requests();
  std::vector<std::thread> threads;
  std::atomic<int> right = 0;
  for (int i = 0; i < 8; ++i) {
    threads.emplace_back([&] {
      const auto file = store->open(digest);
      if (file && read_all_fd(file->get(), 100).value() == "wanted by many") ++right;
    });
  }
  for (std::thread& thread : threads) thread.join();
  CHECK(right == 8);
  CHECK(rig.s3.requests().size() == 2);  // a question and an answer
}

TEST_CASE("a removed blob is gone at once, its object soon, and a new upload brings it back") {
  Rig rig;
  const auto store = rig.open();
  const Digest digest = put(*store, "here and gone");
  CHECK(store->remove(digest).has_value());
  CHECK_FALSE(store->find(digest).value().has_value());
  store->await_removals();
  CHECK_FALSE(rig.s3.object(rig.key(digest)).has_value());
  for (int i = 0; i < 20; ++i) {
    CHECK(put(*store, "here and gone") == digest);
    CHECK(rig.s3.object(rig.key(digest)).has_value());
    CHECK(store->remove(digest).has_value());
  }
  CHECK(put(*store, "here and gone") == digest);
  store->await_removals();
  CHECK(rig.s3.object(rig.key(digest)).has_value());
}

TEST_CASE("an object that cannot be removed is listed again for the next collection") {
  Rig rig;
  const auto store = rig.open();
  const Digest digest = put(*store, "stubborn");
  rig.s3.set_faults([](std::string_view method, std::string_view) -> std::optional<FakeS3::Fault> {
    if (method != "DELETE") return std::nullopt;
    return FakeS3::Fault{.status = 403, .code = "AccessDenied"};
  });
  CHECK(store->remove(digest).has_value());
  store->await_removals();
  CHECK(all(*store) == std::vector<Digest>{digest});
}

TEST_CASE("a removal during a commit of the same bytes loses against it") {
  Rig rig;
  const auto store = rig.open(Bytes{0});
  const Digest digest = put(*store, "wanted again");
  bool tried = false;
  rig.s3.set_faults([&](std::string_view method, std::string_view) -> std::optional<FakeS3::Fault> {
    if (method == "HEAD" && !std::exchange(tried, true)) std::ignore = store->remove(digest);
    return std::nullopt;
  });
  CHECK(put(*store, "wanted again") == digest);
  CHECK(tried);
  store->await_removals();
  CHECK(rig.s3.object(rig.key(digest)).has_value());
}

TEST_CASE("blobs that were on the disk before are moved to the store first") {
  Rig rig;
  const Digest before = put(*rig.local(), "from before");
  rig.s3.set_faults(
      [](std::string_view method, std::string_view target) -> std::optional<FakeS3::Fault> {
        if (method != "PUT" || target.ends_with("owner")) return std::nullopt;
        return FakeS3::Fault{.status = 403, .code = "AccessDenied"};
      });
  CHECK_FALSE(rig.try_open().has_value());
  CHECK(check_blobs_are_here(rig.folder.path() / "blobs").has_value());  // none has left yet
  rig.s3.set_faults({});
  std::ignore = rig.s3.keys();
  rig.s3.remove_object(rig.prefix + "owner");
  const auto store = rig.open(Bytes{0});
  CHECK(rig.s3.object(rig.key(before)) == "from before");
  CHECK_FALSE(rig.is_cached(before));
  CHECK(get(*store, before) == "from before");
  CHECK(check_blobs_are_here(rig.folder.path() / "blobs").error().code == Code::FailedPrecondition);
}

TEST_CASE("a prefix has one data folder, and a data folder one prefix") {
  Rig rig;
  put(*rig.open(), "mine");
  const TempDir other = TempDir::create().value();
  const auto stolen = S3BlobStore::open(*rig.client,
                                        {.root = other.path() / "blobs",
                                         .tmp = other.path() / "tmp",
                                         .prefix = rig.prefix,
                                         .cache = mib(1)},
                                        rig.rng);
  REQUIRE_FALSE(stolen.has_value());
  CHECK(stolen.error().code == Code::FailedPrecondition);
  CHECK(stolen.error().message.find("owner") != std::string::npos);
  rig.prefix = "elsewhere/";
  CHECK(rig.try_open().error().code == Code::FailedPrecondition);
}

}  // namespace mayfly
