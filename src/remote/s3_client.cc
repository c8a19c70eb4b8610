#include "remote/s3_client.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <charconv>
#include <thread>
#include <utility>

#include "base/log.h"
#include "core/printable.h"
#include "core/reason.h"
#include "core/store_reason.h"
#include "remote/sigv4.h"

namespace mayfly {
namespace {

constexpr Bytes kMostOfReply = mib(16);  // pages of lists and errors
constexpr std::size_t kMostConnections = 8;
constexpr std::uint64_t kMostParts = 10'000;
constexpr int kAbortRounds = 16;
constexpr Bytes kProgress = mib(1);  // less is none
constexpr Bytes kOneTry = mib(64);   // of an object whose size is not known yet
constexpr Duration kLookForStop = std::chrono::milliseconds(50);
constexpr std::size_t kHashPiece = std::size_t{256} * 1024;

bool is_success(int status) { return status >= 200 && status < 300; }

bool passes_by_itself(int status, std::string_view code) {
  switch (status) {
    case 408:
    case 429:
    case 500:
    case 502:
    case 503:
    case 504:
      return true;
    default:
      return code == "RequestTimeout" || code == "OperationAborted" || code == "SlowDown";
  }
}

// What whoever runs the node can do about it.
std::string_view advice_for(int status, std::string_view code) {
  if (code == "RequestTimeTooSkewed") return "set this machine's clock";
  if (code == "NoSuchBucket") return "make the bucket, or name another one in store.s3";
  if (status == 401 || status == 403)
    return "check the credentials (store.s3_credentials) and what they may do in the bucket";
  if (status == 301 || status == 307 || status == 400)
    return "check store.s3_region and store.s3_endpoint";
  if (passes_by_itself(status, code)) return "nothing is lost; try again when it has recovered";
  return "check store.s3 and store.s3_endpoint";
}

// pread, all of it.
Result<std::size_t> read_at(int file, std::span<std::byte> into, std::uint64_t offset) {
  while (true) {
    const ssize_t got = ::pread(file, into.data(), into.size(), static_cast<off_t>(offset));
    if (got >= 0) return static_cast<std::size_t>(got);
    if (errno != EINTR) return fail_errno("read what is to be uploaded");
  }
}

Result<std::string> hash_part(int file, std::uint64_t offset, std::uint64_t size) {
  std::vector<std::byte> piece(kHashPiece);
  Sha256 hash;
  while (size > 0) {
    const std::span room = std::span(piece).first(std::min<std::uint64_t>(piece.size(), size));
    const std::size_t got = TRY(read_at(file, room, offset));
    if (got == 0) return fail(Code::DataLoss, "what is to be uploaded became shorter");
    hash.update(room.first(got));
    offset += got;
    size -= got;
  }
  return to_string(hash.digest());
}

std::optional<std::uint64_t> content_length(const Headers& headers) {
  const auto text = headers.find("Content-Length");
  if (!text) return std::nullopt;
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text->data(), text->data() + text->size(), value);
  if (error != std::errc() || end != text->data() + text->size()) return std::nullopt;
  return value;
}

// It goes back as XML text.
bool is_etag(std::string_view text) {
  return !text.empty() && text.size() <= 128 && text.find_first_of("<>&") == std::string_view::npos;
}

}  // namespace

Result<std::unique_ptr<S3Client>> S3Client::create(S3Place place, World world, Options options,
                                                   Rng& rng) {
  TlsContext trust = TRY(TlsContext::client({.more_ca = options.ca}));
  return std::unique_ptr<S3Client>(
      new S3Client(std::move(place), std::move(world), std::move(options), std::move(trust), rng));
}

// --- one try ---

Error S3Client::unavailable(const Ask& ask, std::string_view why) const {
  return refuse(reason::kStoreUnavailable,
                fmt::format("{} {} in bucket '{}' of the object store at {}: {}", ask.method,
                            ask.key.empty() ? "its list" : ask.key, place_.bucket(),
                            place_.endpoint(), why))
      .error();
}

Error S3Client::refused(const Ask& ask, const ClientResponse& reply) const {
  S3Refusal refusal = parse_s3_refusal(reply.body);
  const auto region = reply.headers.find("x-amz-bucket-region");
  if (region && *region != place_.region()) {
    refusal.message += fmt::format(" (the bucket is in region {})", printable(*region, 64));
  }
  return unavailable(
      ask, fmt::format("it answered {}{}{}{}{}; {}", reply.status, refusal.code.empty() ? "" : " ",
                       refusal.code, refusal.message.empty() ? "" : ": ", refusal.message,
                       advice_for(reply.status, refusal.code)));
}

ClientRequest S3Client::request_of(const Ask& ask, const S3Credentials& credentials) const {
  const S3Target target = place_.target(ask.key);
  const std::string query = s3_query_text(ask.query);
  Headers headers{{"Host", target.host}};
  for (std::size_t i = 0; i < ask.headers.size(); ++i)
    headers.add(ask.headers[i].name, ask.headers[i].value);
  const std::string hash = ask.part ? ask.part->sha256 : to_string(sha256(ask.body));
  const std::uint64_t moved =
      ask.expected + ask.body.size() + (ask.part ? ask.part->size : std::uint64_t{0});
  ClientRequest request{
      .method = std::string(ask.method),
      .target = query.empty() ? target.path : fmt::format("{}?{}", target.path, query),
      .headers = sign_v4({.method = ask.method,
                          .path = target.path,
                          .query = query,
                          .headers = std::move(headers),
                          .sha256 = hash},
                         credentials, place_.region(), SystemClock().wall_now()),
      .body = ask.body,
      .deadline =
          deadline_for(options_.patience + std::chrono::seconds(moved / options_.slowest.count))};
  if (ask.part) {
    request.body =
        BodySource{.length = ask.part->size,
                   .read = [file = ask.part->file, at = ask.part->offset](
                               std::span<std::byte> into) mutable -> Result<std::size_t> {
                     const std::size_t got = TRY(read_at(file, into, at));
                     at += got;
                     return got;
                   }};
  }
  if (ask.sink != nullptr) {
    request.sink = [sink = ask.sink](std::string_view piece) { return (*sink)(piece); };
  }
  if (ask.on_head) request.on_head = ask.on_head;
  return request;
}

Result<ClientResponse> S3Client::ask_once(const Ask& ask) {
  const S3Credentials credentials = TRY(world_.credentials());
  std::unique_ptr<HttpClient> connection = take_connection();
  auto reply = connection->send(request_of(ask, credentials));
  if (reply) give_connection(std::move(connection));
  return reply;
}

TimePoint S3Client::deadline_for(Duration patience) const {
  const TimePoint usual = SystemClock().now() + patience;
  const TimePoint::rep hurry = hurry_until_;
  return hurry == 0 ? usual : std::min(usual, TimePoint(Duration(hurry)));
}

S3Client::Hurry::Hurry(S3Client& client, Duration patience) : client_(client) {
  client_.hurry_until_ = (SystemClock().now() + patience).time_since_epoch().count();
}
S3Client::Hurry::~Hurry() { client_.hurry_until_ = 0; }

std::optional<S3Client::Away> S3Client::away() const {
  const std::scoped_lock lock(mutex_);
  return away_;
}

// `error` of Busy and Away.
void S3Client::note(const Ask& ask, StoreCounts::Outcome outcome, const Error* error) {
  counts_.count(kind_of(ask.method, ask.key.empty()), outcome);
  if (outcome == StoreCounts::Outcome::Done) {
    counts_.sent += ask.body.size() + (ask.part ? ask.part->size : std::uint64_t{0});
  }
  const std::scoped_lock lock(mutex_);
  if (error == nullptr) {
    away_.reset();
  } else {
    away_ = Away{.since = away_ ? away_->since : SystemClock().wall_now(), .error = error->message};
  }
}

S3Client::Attempt S3Client::attempt(const Ask& ask) {
  using enum StoreCounts::Outcome;
  if (stopped_) return {.reply = refuse(reason::kDraining, "the node is shutting down")};
  auto reply = ask_once(ask);
  if (!reply) {
    const Error& error = reply.error();
    const bool again = error.code == Code::Unavailable || error.code == Code::DeadlineExceeded ||
                       error.code == Code::Cancelled;
    const std::string_view advice =
        again ? "; is it running and store.s3_endpoint right? Nothing is lost" : "";
    Error why = unavailable(ask, fmt::format("{}{}", error.message, advice));
    // What has a reason is not the store's: a full disk, credentials that cannot be read.
    if (!stopped_ && error.reason.empty()) note(ask, Away, &why);
    return {.reply = std::unexpected(std::move(why)), .again = again};
  }
  const bool absent = reply->status == 404 && parse_s3_refusal(reply->body).code != "NoSuchBucket";
  if (is_success(reply->status) || absent) {
    note(ask, absent ? Absent : Done, nullptr);
    counts_.received += reply->body.size();
    return {.reply = std::move(reply)};
  }
  const bool again = passes_by_itself(reply->status, parse_s3_refusal(reply->body).code);
  Error why = refused(ask, *reply);
  note(ask, again ? Busy : Refused, again ? &why : nullptr);
  return {.reply = std::unexpected(std::move(why)), .again = again};
}

bool S3Client::may_try_again(int failed, TimePoint begun) {
  const bool late = SystemClock().now() - begun >= 2 * options_.patience || hurry_until_ != 0;
  if (failed >= options_.retry.tries || late || stopped_) return false;
  ++counts_.again;
  Duration pause{};
  {
    const std::scoped_lock lock(mutex_);
    pause = retry_pause(options_.retry, failed, rng_);
  }
  if (world_.sleep) {
    world_.sleep(pause);
    return !stopped_;
  }
  for (; pause > Duration::zero() && !stopped_; pause -= kLookForStop)
    std::this_thread::sleep_for(std::min(pause, kLookForStop));
  return !stopped_;
}

Result<ClientResponse> S3Client::ask(const Ask& ask) {
  const TimePoint begun = SystemClock().now();
  for (int failed = 1;; ++failed) {
    Attempt tried = attempt(ask);
    if (tried.reply || !tried.again || !may_try_again(failed, begun)) return std::move(tried.reply);
    LOG(debug, "asking the object store again", {"after", tried.reply.error().message});
  }
}

std::unique_ptr<HttpClient> S3Client::take_connection() {
  {
    const std::scoped_lock lock(mutex_);
    if (!idle_.empty()) {
      auto connection = std::move(idle_.back());
      idle_.pop_back();
      return connection;
    }
  }
  return std::make_unique<HttpClient>(place_.target("").server,
                                      HttpClient::Options{.stall_timeout = options_.patience,
                                                          .reply_timeout = options_.patience,
                                                          .collected_limit = kMostOfReply,
                                                          .tls = {},
                                                          .trust = trust_,
                                                          .stop = &stopped_,
                                                          .peer = "the object store"});
}

void S3Client::give_connection(std::unique_ptr<HttpClient> connection) {
  const std::scoped_lock lock(mutex_);
  if (idle_.size() < kMostConnections) idle_.push_back(std::move(connection));
}

// --- objects ---

Result<std::optional<S3Object>> S3Client::find(const std::string& key) {
  const Ask head{.method = "HEAD", .key = key};
  const ClientResponse reply = TRY(ask(head));
  if (reply.status == 404) return std::nullopt;
  const auto size = content_length(reply.headers);
  if (!size) return std::unexpected(unavailable(head, "it does not say how long the object is"));
  const auto modified = parse_s3_time(reply.headers.find("Last-Modified").value_or(""));
  return S3Object{.key = key, .size = *size, .modified = modified.value_or(WallTime{})};
}

Status S3Client::put(const std::string& key, int file, std::uint64_t size, const Digest& digest) {
  if (size > 2 * options_.part.count) {
    const Ask begin{.method = "POST", .key = key, .query = {{"uploads", ""}}};
    const ClientResponse begun = TRY(ask(begin));
    const auto upload = parse_s3_upload_id(begun.body);
    if (!upload) return std::unexpected(unavailable(begin, upload.error().message));
    Status sent = send_parts(key, *upload, file, size);
    if (sent) return {};
    // A completion may have been heard although its answer was not.
    const auto there = find(key);
    if (there && *there && (*there)->size == size) return {};
    if (!stopped_) std::ignore = abort(key, *upload);
    return sent;
  }
  const Ask whole{
      .method = "PUT",
      .key = key,
      .part = Ask::Part{.file = file, .offset = 0, .size = size, .sha256 = to_string(digest)}};
  const ClientResponse reply = TRY(ask(whole));
  if (reply.status != 404) return {};
  return std::unexpected(refused(whole, reply));
}

Status S3Client::put(const std::string& key, std::string_view text) {
  const Ask whole{.method = "PUT", .key = key, .body = std::string(text)};
  const ClientResponse reply = TRY(ask(whole));
  if (reply.status != 404) return {};
  return std::unexpected(refused(whole, reply));
}

Status S3Client::send_parts(const std::string& key, const std::string& upload, int file,
                            std::uint64_t size) {
  const std::uint64_t part = std::max(options_.part.count, (size + kMostParts - 1) / kMostParts);
  std::vector<std::string> etags;
  for (std::uint64_t at = 0; at < size; at += part) {
    const std::uint64_t length = std::min(part, size - at);
    const auto number = static_cast<int>(etags.size()) + 1;
    Ask::Part piece{.file = file, .offset = at, .size = length};
    piece.sha256 = TRY(hash_part(file, at, length));
    etags.push_back(TRY(send_part(key, upload, number, std::move(piece))));
  }
  TRY(complete(key, upload, etags));
  const auto there = TRY(find(key));
  if (there && there->size == size) return {};
  return std::unexpected(
      unavailable({.method = "PUT", .key = key},
                  "it took all parts and has another length than they have; try again"));
}

Result<std::string> S3Client::send_part(const std::string& key, const std::string& upload,
                                        int number, Ask::Part part) {
  const Ask send{.method = "PUT",
                 .key = key,
                 .query = {{"partNumber", std::to_string(number)}, {"uploadId", upload}},
                 .part = std::move(part)};
  const ClientResponse reply = TRY(ask(send));
  if (reply.status == 404) return std::unexpected(refused(send, reply));
  const auto etag = reply.headers.find("ETag");
  if (etag && is_etag(*etag)) return std::string(*etag);
  return std::unexpected(unavailable(send, "it does not name the part it has taken"));
}

Status S3Client::complete(const std::string& key, const std::string& upload,
                          const std::vector<std::string>& etags) {
  std::string body = "<CompleteMultipartUpload>";
  for (std::size_t i = 0; i < etags.size(); ++i) {
    body += fmt::format("<Part><PartNumber>{}</PartNumber><ETag>{}</ETag></Part>", i + 1, etags[i]);
  }
  const Ask end{.method = "POST",
                .key = key,
                .query = {{"uploadId", upload}},
                .body = body + "</CompleteMultipartUpload>"};
  const ClientResponse reply = TRY(ask(end));
  if (reply.status == 404) return std::unexpected(refused(end, reply));
  const Status complete = check_s3_completion(reply.body);
  if (complete) return {};
  return std::unexpected(unavailable(end, complete.error().message));
}

Status S3Client::abort(const std::string& key, const std::string& upload) {
  TRY(ask({.method = "DELETE", .key = key, .query = {{"uploadId", upload}}}));
  return {};
}

// What there is from `at` on, which moves with it.
S3Client::Attempt S3Client::get_once(const std::string& key, std::uint64_t& at, const Sink& sink,
                                     Taken& taken) {
  std::uint64_t skipped = 0;  // a store that does not know Range begins anew
  const Sink take = [&](std::string_view piece) -> Status {
    const std::uint64_t skip = std::min<std::uint64_t>(skipped, piece.size());
    skipped -= skip;
    piece.remove_prefix(skip);
    counts_.received += piece.size();
    taken.outcome = sink(piece);
    if (taken.outcome) at += piece.size();
    return taken.outcome;
  };
  Ask read{.key = key, .expected = kOneTry.count, .sink = &take};
  if (at > 0) read.headers.add("Range", fmt::format("bytes={}-", at));
  read.on_head = [&](int told, const Headers&) {
    taken.status = told;
    skipped = told == 200 ? at : 0;
  };
  return attempt(read);
}

Status S3Client::get(const std::string& key, std::uint64_t offset, const Sink& sink) {
  std::uint64_t at = offset;
  TimePoint begun = SystemClock().now();
  for (int failed = 1;; ++failed) {
    const std::uint64_t before = at;
    Taken taken;
    Attempt tried = get_once(key, at, sink, taken);
    if (!taken.outcome) return taken.outcome;
    if (taken.status == 416) return {};  // it ends where the beginning does
    if (tried.reply && tried.reply->status == 404) {
      return fail(Code::NotFound, fmt::format("there is no {}", key), reason::kNotFound);
    }
    if (tried.reply) return {};
    if (at - before >= kProgress.count) {
      failed = 1;
      begun = SystemClock().now();
    }
    if (!tried.again || !may_try_again(failed, begun)) return std::unexpected(tried.reply.error());
  }
}

Result<std::optional<std::string>> S3Client::get_small(const std::string& key, std::size_t limit) {
  const Ask read{.key = key};
  ClientResponse reply = TRY(ask(read));
  if (reply.status == 404) return std::nullopt;
  if (reply.body.size() <= limit) return std::move(reply.body);
  return std::unexpected(unavailable(read, "it is longer than it can be"));
}

Status S3Client::remove(const std::string& key) {
  TRY(ask({.method = "DELETE", .key = key}));
  return {};
}

Status S3Client::for_each(const std::string& prefix,
                          const std::function<Status(const S3Object&)>& visit) {
  std::string token;
  while (true) {
    Ask list{.query = {{"list-type", "2"}, {"prefix", prefix}}};
    if (!token.empty()) list.query.emplace_back("continuation-token", token);
    const ClientResponse reply = TRY(ask(list));
    if (reply.status == 404) return std::unexpected(refused(list, reply));
    const auto page = parse_s3_page(reply.body);
    if (!page) return std::unexpected(unavailable(list, page.error().message));
    for (const S3Object& object : page->objects) TRY(visit(object));
    if (page->next.empty()) return {};
    if (page->next == token) {
      return std::unexpected(unavailable(list, "its list does not come to an end"));
    }
    token = page->next;
  }
}

Result<std::size_t> S3Client::abort_uploads(const std::string& prefix) {
  std::size_t aborted = 0;
  for (int round = 0; round < kAbortRounds; ++round) {
    const Ask list{.query = {{"uploads", ""}, {"prefix", prefix}}};
    const ClientResponse reply = TRY(ask(list));
    if (reply.status == 404) return std::unexpected(refused(list, reply));
    const auto uploads = parse_s3_uploads(reply.body);
    if (!uploads) return std::unexpected(unavailable(list, uploads.error().message));
    if (uploads->empty()) break;
    for (const S3Upload& upload : *uploads) {
      if (!upload.key.starts_with(prefix)) continue;
      TRY(abort(upload.key, upload.id));
      ++aborted;
    }
  }
  return aborted;
}

}  // namespace mayfly
