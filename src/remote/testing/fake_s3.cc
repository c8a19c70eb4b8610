#include "remote/testing/fake_s3.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <charconv>
#include <utility>

#include "async/sleep.h"
#include "base/check.h"
#include "remote/sigv4.h"

namespace mayfly {
namespace {

constexpr std::string_view kRoot = "/test-bucket";
constexpr std::size_t kPage = 3;
constexpr std::string_view kModified = "2024-05-06T07:08:09.000Z";

Response refusal(int status, std::string_view code) {
  return {.status = status,
          .headers = {{"Content-Type", "application/xml"}},
          .body = fmt::format("<Error><Code>{}</Code><Message>as the test says</Message></Error>",
                              code)};
}

Response document(std::string body) {
  return {.status = 200,
          .headers = {{"Content-Type", "application/xml"}},
          .body = "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n" + std::move(body)};
}

}  // namespace

FakeS3::FakeS3() : server_([this](Exchange& exchange) { return answer(exchange); }) {}

S3Client::Options FakeS3::small_parts() {
  return {.ca = {}, .retry = {.tries = 4}, .part = mib(5)};
}

S3Credentials FakeS3::credentials() { return {.id = "AKIATEST", .secret = "keep me", .token = ""}; }

std::unique_ptr<S3Client> FakeS3::client(S3Client::Options options) {
  auto place = S3Place::create({.endpoint = url()}, "test-bucket");
  CHECK(place);
  auto client = S3Client::create(
      *std::move(place),
      {.credentials = [] { return credentials(); }, .sleep = [this](Duration) { ++pauses_; }},
      std::move(options), rng_);
  CHECK(client);
  return *std::move(client);
}

void FakeS3::set_faults(Faults faults) {
  const std::scoped_lock lock(mutex_);
  faults_ = std::move(faults);
}

void FakeS3::fail_next(int count, Fault fault) {
  set_faults([left = count, fault = std::move(fault)](
                 std::string_view, std::string_view) mutable -> std::optional<Fault> {
    if (left-- <= 0) return std::nullopt;
    return fault;
  });
}

std::vector<std::string> FakeS3::keys() {
  const std::scoped_lock lock(mutex_);
  std::vector<std::string> keys;
  for (const auto& [key, bytes] : objects_) keys.push_back(key);
  return keys;
}

std::optional<std::string> FakeS3::object(const std::string& key) {
  const std::scoped_lock lock(mutex_);
  const auto found = objects_.find(key);
  if (found == objects_.end()) return std::nullopt;
  return found->second;
}

void FakeS3::set_object(const std::string& key, std::string bytes) {
  const std::scoped_lock lock(mutex_);
  objects_[key] = std::move(bytes);
}

void FakeS3::remove_object(const std::string& key) {
  const std::scoped_lock lock(mutex_);
  objects_.erase(key);
}

std::size_t FakeS3::uploads() {
  const std::scoped_lock lock(mutex_);
  return uploads_.size();
}

void FakeS3::begin_upload(const std::string& key) {
  const std::scoped_lock lock(mutex_);
  uploads_[fmt::format("upload-{}", ++next_upload_)] = {.key = key, .parts = {}};
}

std::vector<std::string> FakeS3::requests() {
  const std::scoped_lock lock(mutex_);
  return std::exchange(requests_, {});
}

// --- on the server's thread ---

Task<void> FakeS3::answer(Exchange& exchange) {
  const RequestHead& head = exchange.head();
  Request request{.method = head.method_text, .key = {}, .body = {}};
  std::array<std::byte, 65536> piece{};
  while (true) {
    const auto got = co_await exchange.read_some(piece);
    if (!got) co_return;
    if (*got == 0) break;
    request.body.append(reinterpret_cast<const char*>(piece.data()), *got);
  }
  const auto path = percent_decode(head.path());
  if (path && path->starts_with(fmt::format("{}/", kRoot)))
    request.key = path->substr(kRoot.size() + 1);
  const auto fault = fault_of(head);
  if (fault && fault->hang) {
    (void)co_await sleep_for(server_.loop(), std::chrono::hours(1), exchange.disconnected());
    co_return;
  }
  if (fault && !fault->cut) {
    (void)co_await exchange.respond(refusal(fault->status, fault->code));
    co_return;
  }
  Response response =
      is_signed(head, request) ? reply_to(head, request) : refusal(403, "SignatureDoesNotMatch");
  if (!fault) {
    (void)co_await exchange.respond(std::move(response));
    co_return;
  }
  const std::string whole = std::get<std::string>(response.body);
  (void)co_await exchange.start(response.status, std::move(response.headers));
  (void)co_await exchange.write(std::string_view(whole).substr(0, whole.size() / 2));
}

std::optional<FakeS3::Fault> FakeS3::fault_of(const RequestHead& head) {
  const std::scoped_lock lock(mutex_);
  requests_.push_back(fmt::format("{} {}", head.method_text, head.target));
  return faults_ ? faults_(head.method_text, head.target) : std::nullopt;
}

// As the store would: from what was signed and the secret.
bool FakeS3::is_signed(const RequestHead& head, const Request& request) {
  const auto sent = head.headers.find("Authorization");
  const auto when = head.headers.find("x-amz-date");
  const auto hash = head.headers.find("x-amz-content-sha256");
  if (!sent || !when || !hash || *hash != to_string(sha256(request.body))) return false;
  SigV4Request question{
      .method = head.method_text, .path = head.path(), .query = {}, .headers = {}, .sha256 = *hash};
  if (head.path().size() < head.target.size())
    question.query = std::string_view(head.target).substr(head.path().size() + 1);
  for (const char* name : {"Host", "Range", "If-Range", "Accept-Encoding"}) {
    if (const auto value = head.headers.find(name)) question.headers.add(name, *value);
  }
  const std::string iso =
      fmt::format("{}-{}-{}T{}:{}:{}Z", when->substr(0, 4), when->substr(4, 2), when->substr(6, 2),
                  when->substr(9, 2), when->substr(11, 2), when->substr(13, 2));
  const Headers expected =
      sign_v4(question, credentials(), "us-east-1", parse_s3_time(iso).value_or(WallTime{}));
  return expected.find("Authorization") == sent;
}

Response FakeS3::reply_to(const RequestHead& head, const Request& request) {
  const std::scoped_lock lock(mutex_);
  if (request.key.empty()) return head.query("uploads") ? list_uploads(head) : list(head);
  if (request.method == "GET" || request.method == "HEAD") return read(head, request);
  if (request.method == "PUT") return write(head, request);
  if (request.method == "POST") return post(head, request);
  if (const auto upload = head.query("uploadId")) {
    uploads_.erase(*upload);
  } else {
    objects_.erase(request.key);
  }
  return {.status = 204, .headers = {}, .body = ""};
}

Response FakeS3::read(const RequestHead& head, const Request& request) {
  const auto found = objects_.find(request.key);
  if (found == objects_.end()) return refusal(404, "NoSuchKey");
  Response response{
      .status = 200,
      .headers = {{"Last-Modified", "Mon, 06 May 2024 07:08:09 GMT"}, {"ETag", "\"whole\""}},
      .body = found->second};
  if (const auto range = head.headers.find("Range")) {
    std::size_t from = 0;
    std::from_chars(range->data() + 6, range->data() + range->size(), from);
    if (from >= found->second.size()) return refusal(416, "InvalidRange");
    response.status = 206;
    response.headers.add(
        "Content-Range",
        fmt::format("bytes {}-{}/{}", from, found->second.size() - 1, found->second.size()));
    response.body = found->second.substr(from);
  }
  return response;
}

Response FakeS3::write(const RequestHead& head, const Request& request) {
  const auto upload = head.query("uploadId");
  if (!upload) {
    objects_[request.key] = request.body;
    return {.status = 200, .headers = {{"ETag", "\"whole\""}}, .body = ""};
  }
  const auto begun = uploads_.find(*upload);
  if (begun == uploads_.end()) return refusal(404, "NoSuchUpload");
  const int number = std::stoi(head.query("partNumber").value_or("0"));
  begun->second.parts[number] = request.body;
  return {.status = 200, .headers = {{"ETag", fmt::format("\"part-{}\"", number)}}, .body = ""};
}

Response FakeS3::post(const RequestHead& head, const Request& request) {
  if (head.query("uploads")) {
    const std::string id = fmt::format("upload-{}", ++next_upload_);
    uploads_[id] = {.key = request.key, .parts = {}};
    return document(
        fmt::format("<InitiateMultipartUploadResult><UploadId>{}</UploadId>"
                    "</InitiateMultipartUploadResult>",
                    id));
  }
  const auto begun = uploads_.find(head.query("uploadId").value_or(""));
  if (begun == uploads_.end()) return refusal(404, "NoSuchUpload");
  std::string whole;
  for (const auto& [number, bytes] : begun->second.parts) {
    if (request.body.find(fmt::format("<Part><PartNumber>{0}</PartNumber><ETag>\"part-{0}\"</ETag>",
                                      number)) == std::string::npos) {
      return refusal(400, "InvalidPart");
    }
    whole += bytes;
  }
  objects_[begun->second.key] = std::move(whole);
  uploads_.erase(begun);
  return document("<CompleteMultipartUploadResult></CompleteMultipartUploadResult>");
}

Response FakeS3::list(const RequestHead& head) {
  const std::string prefix = head.query("prefix").value_or("");
  const std::string after = head.query("continuation-token").value_or("");
  std::string body;
  std::string last;
  std::size_t listed = 0;
  bool more = false;
  for (const auto& [key, bytes] : objects_) {
    if (!key.starts_with(prefix) || key <= after) continue;
    more = listed == kPage;
    if (more) break;
    body += fmt::format(
        "<Contents><Key>{}</Key><Size>{}</Size><LastModified>{}</LastModified></Contents>", key,
        bytes.size(), kModified);
    last = key;
    ++listed;
  }
  if (more) body += fmt::format("<NextContinuationToken>{}</NextContinuationToken>", last);
  return document(fmt::format(
      "<ListBucketResult><IsTruncated>{}</IsTruncated>{}</ListBucketResult>", more, body));
}

Response FakeS3::list_uploads(const RequestHead& head) {
  const std::string prefix = head.query("prefix").value_or("");
  std::string body;
  for (const auto& [id, upload] : uploads_) {
    if (!upload.key.starts_with(prefix)) continue;
    body += fmt::format("<Upload><Key>{}</Key><UploadId>{}</UploadId></Upload>", upload.key, id);
  }
  return document(fmt::format("<ListMultipartUploadsResult>{}</ListMultipartUploadsResult>", body));
}

}  // namespace mayfly
