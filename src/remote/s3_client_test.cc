#include "remote/s3_client.h"

#include <fcntl.h>

#include <string>

#include "core/reason.h"
#include "core/store_reason.h"
#include "remote/testing/fake_s3.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

struct Bytes13 {
  TempDir folder = TempDir::create().value();
  std::string text = [] {
    std::string made((std::size_t{13} << 20) + 5, '\0');
    for (std::size_t i = 0; i < made.size(); ++i) made[i] = static_cast<char>(i * i >> 9);
    return made;
  }();
  Fd file = [this] {
    REQUIRE(write_file_durably(folder.path() / "bytes", text).has_value());
    return open_file(folder.path() / "bytes", O_RDONLY).value();
  }();
  Status put(S3Client& client, const std::string& key) const {
    return client.put(key, file.get(), text.size(), sha256(text));
  }
};

std::string get(S3Client& client, const std::string& key, std::uint64_t offset = 0) {
  std::string text;
  const Status got = client.get(key, offset, [&](std::string_view piece) -> Status {
    text += piece;
    return {};
  });
  REQUIRE_MESSAGE(got.has_value(), (got ? "" : got.error().message));
  return text;
}

}  // namespace

TEST_CASE("objects are put, found, read from anywhere, listed over pages and removed") {
  FakeS3 s3;
  const auto client = s3.client();
  CHECK_FALSE(client->find("a/b c").value().has_value());
  for (const char* name : {"a/b c", "a/1", "a/2", "a/3", "a/4", "a/5", "a/6", "b/1"})
    REQUIRE(client->put(name, std::string("of ") + name).has_value());
  CHECK(client->find("a/b c").value()->size == 8);
  CHECK(client->find("a/b c").value()->modified == parse_s3_time("2024-05-06T07:08:09Z"));
  CHECK(get(*client, "a/b c") == "of a/b c");
  CHECK(get(*client, "a/b c", 3) == "a/b c");
  CHECK(get(*client, "a/b c", 8).empty());
  CHECK(client->get_small("a/1", 100).value() == "of a/1");
  CHECK(client->get_small("a/1", 2).error().reason == reason::kStoreUnavailable);
  CHECK_FALSE(client->get_small("none", 100).value().has_value());
  std::vector<std::string> keys;
  REQUIRE(client
              ->for_each("a/",
                         [&](const S3Object& object) -> Status {
                           keys.push_back(object.key);
                           return {};
                         })
              .has_value());
  CHECK(keys == std::vector<std::string>{"a/1", "a/2", "a/3", "a/4", "a/5", "a/6", "a/b c"});
  CHECK(client->remove("a/1").has_value());
  CHECK(client->remove("a/1").has_value());
  CHECK(client->get("a/1", 0, [](std::string_view) { return Status{}; }).error().code ==
        Code::NotFound);
}

TEST_CASE("what is large goes in parts, and a part that fails is sent again") {
  FakeS3 s3;
  const auto client = s3.client();
  const Bytes13 bytes;
  bool failed = false;
  s3.set_faults([&](std::string_view method,
                    std::string_view target) -> std::optional<FakeS3::Fault> {
    const bool second = method == "PUT" && target.find("partNumber=2") != std::string_view::npos;
    if (!second || std::exchange(failed, true)) return std::nullopt;
    return FakeS3::Fault{.status = 503, .code = "SlowDown"};
  });
  REQUIRE(bytes.put(*client, "large").has_value());
  CHECK(failed);
  CHECK(s3.object("large") == bytes.text);
  CHECK(s3.uploads() == 0);
  CHECK(s3.pauses() == 1);
}

TEST_CASE("an upload that cannot be ended leaves no parts behind") {
  FakeS3 s3;
  const auto client = s3.client();
  const Bytes13 bytes;
  s3.set_faults(
      [&](std::string_view method, std::string_view target) -> std::optional<FakeS3::Fault> {
        if (method != "PUT" || target.find("partNumber=3") == std::string_view::npos)
          return std::nullopt;
        return FakeS3::Fault{.status = 403, .code = "AccessDenied"};
      });
  CHECK(bytes.put(*client, "large").error().reason == reason::kStoreUnavailable);
  CHECK(s3.uploads() == 0);
  CHECK(s3.keys().empty());
}

TEST_CASE("uploads that a dead process left are ended, and only those of the prefix") {
  FakeS3 s3;
  const auto client = s3.client();
  s3.begin_upload("mine/a");
  s3.begin_upload("mine/b");
  s3.begin_upload("other/c");
  CHECK(client->abort_uploads("mine/").value() == 2);
  CHECK(s3.uploads() == 1);
}

TEST_CASE("a store that is busy is asked again, one that refuses is not") {
  FakeS3 s3;
  const auto client = s3.client();
  REQUIRE(client->put("x", "1").has_value());
  for (const int status : {500, 502, 503, 504, 429}) {
    s3.fail_next(3, {.status = status, .code = "SlowDown"});
    CHECK(client->find("x").value()->size == 1);
  }
  CHECK(s3.pauses() == 15);
  s3.fail_next(4, {.status = 503, .code = "SlowDown"});
  const auto busy = client->get_small("x", 10);
  REQUIRE_FALSE(busy.has_value());
  CHECK(busy.error().reason == reason::kStoreUnavailable);
  CHECK(busy.error().message.find("503 SlowDown") != std::string::npos);
  CHECK(busy.error().message.find("nothing is lost") != std::string::npos);
  s3.requests();
  s3.fail_next(1, {.status = 403, .code = "InvalidAccessKeyId"});
  const auto refused = client->get_small("x", 10);
  REQUIRE_FALSE(refused.has_value());
  CHECK(s3.requests().size() == 1);
  for (const std::string& word :
       {s3.url(), std::string("'test-bucket'"), std::string("403 InvalidAccessKeyId"),
        std::string("store.s3_credentials")}) {
    CHECK(refused.error().message.find(word) != std::string::npos);
  }
  CHECK(refused.error().message.find("keep me") == std::string::npos);
}

TEST_CASE("a store that is away is a clear error") {
  auto s3 = std::make_unique<FakeS3>();
  const std::string url = s3->url();
  s3.reset();
  SystemRng rng;
  int pauses = 0;
  const auto client = S3Client::create(S3Place::create({.endpoint = url}, "test-bucket").value(),
                                       {.credentials = [] { return FakeS3::credentials(); },
                                        .sleep = [&](Duration) { ++pauses; }},
                                       FakeS3::small_parts(), rng)
                          .value();
  const auto away = client->find("x");
  REQUIRE_FALSE(away.has_value());
  CHECK(away.error().reason == reason::kStoreUnavailable);
  CHECK(away.error().message.find(url) != std::string::npos);
  CHECK(pauses == 3);
  client->stop();
  CHECK(client->find("x").error().reason == reason::kDraining);
}

TEST_CASE("a store that is silent is given up in bounded time, however many tries are left") {
  FakeS3 s3;
  S3Client::Options options = FakeS3::small_parts();
  options.patience = std::chrono::milliseconds(50);
  options.retry.tries = 1000;
  const auto client = s3.client(options);
  s3.set_faults([](std::string_view, std::string_view) { return FakeS3::Fault{.hang = true}; });
  const auto silent = client->find("x");
  REQUIRE_FALSE(silent.has_value());
  CHECK(silent.error().reason == reason::kStoreUnavailable);
  CHECK(s3.requests().size() <= 3);
}

TEST_CASE("wrong credentials and a wrong hash are refused by the store") {
  FakeS3 s3;
  SystemRng rng;
  const auto client =
      S3Client::create(S3Place::create({.endpoint = s3.url()}, "test-bucket").value(),
                       {.credentials = [] { return S3Credentials{"AKIATEST", "wrong", ""}; }},
                       FakeS3::small_parts(), rng)
          .value();
  CHECK(client->put("x", "1").error().message.find("SignatureDoesNotMatch") != std::string::npos);
  const Bytes13 bytes;
  CHECK_FALSE(s3.client()->put("x", bytes.file.get(), 5, sha256("others")).has_value());
  CHECK(s3.keys().empty());
}

TEST_CASE("what breaks off goes on where it stood") {
  FakeS3 s3;
  const auto client = s3.client();
  const Bytes13 bytes;
  s3.set_object("large", bytes.text);
  s3.requests();
  int cuts = 0;
  s3.set_faults([&](std::string_view, std::string_view) -> std::optional<FakeS3::Fault> {
    if (++cuts > 3) return std::nullopt;
    return FakeS3::Fault{.cut = true};
  });
  CHECK(get(*client, "large") == bytes.text);
  CHECK(s3.requests().size() == 4);
  s3.set_faults([](std::string_view, std::string_view) { return FakeS3::Fault{.cut = true}; });
  s3.set_object("small", "0123456789");
  const Status never = client->get("small", 0, [](std::string_view) { return Status{}; });
  CHECK(never.error().reason == reason::kStoreUnavailable);
  const Status full = client->get("small", 0, [](std::string_view) -> Status {
    return refuse(reason::kStorageFull, "no room");
  });
  CHECK(full.error().reason == reason::kStorageFull);
}

}  // namespace mayfly
