#include "remote/fetch.h"

#include <atomic>
#include <mutex>
#include <string>
#include <vector>

#include "base/testing/fake_clock.h"
#include "core/reason.h"
#include "core/store_reason.h"
#include "remote/testing/fake_s3.h"
#include "store/testing/fake_blob_store.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

// A site that serves 3 MiB, and fails in the ways of sites.
struct Site {
  Site() : server([this](Exchange& exchange) { return answer(exchange); }) {}

  Task<void> answer(Exchange& exchange) {
    const std::string target = exchange.head().target;
    std::string range(exchange.head().headers.find("Range").value_or(""));
    if (!ranges) range.clear();
    asked.push_back(target + (range.empty() ? "" : " " + range));
    if (target == "/away") co_return co_await redirect(exchange, away);
    if (target == "/round") co_return co_await redirect(exchange, "/round");
    if (const auto found = statuses.find(target); found != statuses.end()) {
      (void)co_await exchange.respond({.status = found->second, .headers = {}, .body = "no"});
      co_return;
    }
    const std::size_t from = range.empty() ? 0 : std::stoul(range.substr(6));
    Response response{.status = range.empty() ? 200 : 206, .headers = extra, .body = ""};
    if (!etag.empty()) response.headers.add("ETag", etag);
    response.headers.add("Content-Type", "text/csv");
    if (response.status == 206) {
      response.headers.add("Content-Range", "bytes " + std::to_string(from) + "-" +
                                                std::to_string(text.size() - 1) + "/" +
                                                std::to_string(text.size()));
    }
    if (cuts <= 0) {
      response.body = text.substr(from);
      (void)co_await exchange.respond(std::move(response));
      co_return;
    }
    --cuts;
    if (!etag_after_cut.empty()) etag = etag_after_cut;
    (void)co_await exchange.start(response.status, std::move(response.headers));
    (void)co_await exchange.write(std::string_view(text).substr(from, text.size() / 3));
  }
  static Task<void> redirect(Exchange& exchange, std::string where) {
    (void)co_await exchange.respond(
        {.status = 302, .headers = {{"Location", where}}, .body = "elsewhere"});
  }

  std::string url(const std::string& path) const { return server.url() + path; }
  Result<Fetched> fetch(const std::string& path, BlobWriter& writer, FetchOptions options = {}) {
    const auto source = parse_fetch_source(url(path)).value();
    options.retry.tries = 3;
    options.sleep = [this](Duration) { ++pauses; };
    return mayfly::fetch(*client, source, writer, options, rng);
  }

  std::string text = [] {
    std::string made(std::size_t{3} << 20, '\0');
    for (std::size_t i = 0; i < made.size(); ++i) made[i] = static_cast<char>(i * i >> 11);
    return made;
  }();
  bool ranges = true;
  std::string etag = "\"v1\"";
  std::string etag_after_cut;
  std::string away = "/data";
  std::map<std::string, int> statuses;
  Headers extra;
  int cuts = 0;
  int pauses = 0;
  std::vector<std::string> asked;
  SystemRng rng;
  std::unique_ptr<GuardedClient> client =
      GuardedClient::create(EgressPolicy::parse({"127.0.0.1"}).value(), {}).value();
  FakeClock clock;
  FakeBlobStore store{clock};
  std::unique_ptr<BlobWriter> into = store.create().value();
  ServerThread server;
};

std::string message_of(const Result<Fetched>& fetched) {
  return fetched ? std::string("none") : fetched.error().message;
}

}  // namespace

TEST_CASE("a source is streamed into a blob, with its progress") {
  Site site;
  std::uint64_t told = 0;
  std::optional<std::uint64_t> total;
  const auto fetched =
      site.fetch("/data?token=hidden", *site.into, {.on_progress = [&](FetchProgress progress) {
                   told = progress.received;
                   total = progress.total;
                   return Status{};
                 }});
  REQUIRE_MESSAGE(fetched.has_value(), message_of(fetched));
  CHECK(fetched->size == site.text.size());
  CHECK(fetched->content_type == "text/csv");
  CHECK(told == site.text.size());
  CHECK(total == site.text.size());
  CHECK(site.into->commit().value().digest == sha256(site.text));
  CHECK(parse_fetch_source(site.url("/data?token=hidden")).value().shown.find("hidden") ==
        std::string::npos);
}

TEST_CASE("a broken connection is gone on with where it stood") {
  Site site;
  site.cuts = 2;
  REQUIRE(site.fetch("/data", *site.into).has_value());
  CHECK(site.into->commit().value().digest == sha256(site.text));
  const std::size_t third = site.text.size() / 3;
  CHECK(site.asked == std::vector<std::string>{"/data",
                                               "/data bytes=" + std::to_string(third) + "-",
                                               "/data bytes=" + std::to_string(2 * third) + "-"});
  CHECK(site.pauses == 2);
}

TEST_CASE("a server without ranges sends its beginning again, which is passed over") {
  Site site;
  site.ranges = false;
  site.cuts = 1;
  REQUIRE(site.fetch("/data", *site.into).has_value());
  CHECK(site.into->commit().value().digest == sha256(site.text));
}

TEST_CASE("what may have changed between two tries is refused") {
  for (const bool ranges : {true, false}) {
    for (const auto& [before, after] :
         {std::pair{"\"v1\"", "\"v2\""}, {"", ""}, {"W/\"v1\"", "W/\"v1\""}}) {
      Site site;
      site.cuts = 1;
      site.ranges = ranges;
      site.etag = before;
      site.etag_after_cut = after;
      const auto refused = site.fetch("/data", *site.into);
      REQUIRE_FALSE(refused.has_value());
      CHECK(refused.error().reason == reason::kSourceFailed);
      CHECK(refused.error().message.find("fetch it anew") != std::string::npos);
    }
  }
}

TEST_CASE("an upload whose digest is known goes on after a restart") {
  Site site;
  const Digest expected = sha256(site.text);
  REQUIRE(site.store.resume(expected)
              .value()
              ->append(std::as_bytes(std::span(site.text).first(1000)))
              .has_value());
  auto upload = site.store.resume(expected).value();
  REQUIRE(site.fetch("/data", *upload).has_value());
  CHECK(site.asked == std::vector<std::string>{"/data bytes=1000-"});
  CHECK(upload->commit().has_value());
}

TEST_CASE("more than is allowed is refused, before it is read where the source says so") {
  Site site;
  const auto refused = site.fetch("/data", *site.into, {.most = mib(1)});
  CHECK(refused.error().reason == reason::kTooLarge);
  CHECK(site.into->offset() == 0);
  site.cuts = 1;  // chunked: nobody knows its length
  CHECK(site.fetch("/data", *site.into, {.most = kib(100)}).error().reason == reason::kTooLarge);
  CHECK(site.into->offset() <= 100 * 1024);
  CHECK(site.pauses == 0);
}

TEST_CASE("redirects are followed a few times, each by the policy") {
  Site site;
  REQUIRE(site.fetch("/away", *site.into).has_value());
  CHECK(site.into->offset() == site.text.size());
  site.into = site.store.create().value();
  CHECK(message_of(site.fetch("/round", *site.into)).find("redirects more than") !=
        std::string::npos);
  for (const char* where : {"http://127.0.0.2:9/secret", "http://169.254.169.254/latest"}) {
    site.away = where;
    CHECK(site.fetch("/away", *site.into).error().code == Code::PermissionDenied);
  }
  for (const char* where : {"", "//evil", "ftp://x/y", "file:///etc/passwd"}) {
    site.away = where;
    CHECK(site.fetch("/away", *site.into).error().reason == reason::kSourceFailed);
  }
  CHECK(site.into->offset() == 0);
}

TEST_CASE("a source that is busy is asked again, one that refuses is not") {
  Site site;
  site.statuses = {{"/busy", 503}, {"/gone", 404}, {"/mine", 403}};
  CHECK(message_of(site.fetch("/busy", *site.into)).find("answers 503") != std::string::npos);
  CHECK(site.asked.size() == 3);
  site.asked.clear();
  CHECK(message_of(site.fetch("/gone", *site.into)).find("answers 404") != std::string::npos);
  CHECK(message_of(site.fetch("/mine", *site.into)).find("credentials") != std::string::npos);
  CHECK(site.asked.size() == 2);
  site.extra = {{"Content-Encoding", "gzip"}};
  CHECK(message_of(site.fetch("/data", *site.into)).find("gzip") != std::string::npos);
  CHECK(site.into->offset() == 0);
}

TEST_CASE("an error of the writer or of who watches ends it, and stays itself") {
  Site site;
  const auto stopped = site.fetch("/data", *site.into, {.on_progress = [](FetchProgress) {
                                    return Status(fail(Code::Cancelled, "enough"));
                                  }});
  REQUIRE_FALSE(stopped.has_value());
  CHECK(stopped.error().message.find("enough") != std::string::npos);
  CHECK(site.pauses == 0);
}

TEST_CASE("an object is fetched with the user's credentials, and only with right ones") {
  Site site;
  FakeS3 s3;
  s3.set_object("a b/data.csv", "1,2,3");
  S3Access access{.service = {.endpoint = s3.url()}, .credentials = FakeS3::credentials()};
  const auto source = parse_fetch_source("s3://test-bucket/a b/data.csv", access).value();
  REQUIRE(fetch(*site.client, source, *site.into, {}, site.rng).has_value());
  CHECK(site.into->commit().value().digest == sha256("1,2,3"));
  CHECK(source.shown == "s3://test-bucket/a b/data.csv");
  access.credentials->secret = "wrong";
  site.into = site.store.create().value();
  const auto wrong = parse_fetch_source("s3://test-bucket/a b/data.csv", access).value();
  const auto refused = fetch(*site.client, wrong, *site.into, {}, site.rng);
  CHECK(message_of(refused).find("403") != std::string::npos);
  CHECK(message_of(refused).find("wrong") == std::string::npos);
  for (const char* none : {"s3://test-bucket", "s3://test-bucket/", "s3://test-bucket/folder/",
                           "ftp://host/x", "data.csv", ""}) {
    CHECK(parse_fetch_source(none, access).error().reason == reason::kInvalidSetting);
  }
}

TEST_CASE("an object that breaks off is gone on with") {
  Site site;
  FakeS3 s3;
  s3.set_object("data", site.text);
  const S3Access access{.service = {.endpoint = s3.url()}, .credentials = FakeS3::credentials()};
  s3.fail_next(1, {.cut = true});
  const auto source = parse_fetch_source("s3://test-bucket/data", access).value();
  FetchOptions options;
  options.sleep = [](Duration) {};
  REQUIRE(fetch(*site.client, source, *site.into, options, site.rng).has_value());
  CHECK(site.into->commit().value().digest == sha256(site.text));
}

}  // namespace mayfly
