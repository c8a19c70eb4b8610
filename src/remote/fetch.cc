#include "remote/fetch.h"

#include <fmt/format.h>

#include <charconv>
#include <thread>
#include <utility>

#include "core/printable.h"
#include "core/reason.h"
#include "core/store_reason.h"

namespace mayfly {
namespace {

constexpr int kMostRedirects = 5;
constexpr std::uint64_t kWorthATry = std::uint64_t{1} << 20;
constexpr std::size_t kLongestWord = 200;

std::optional<std::uint64_t> decimal(std::string_view text) {
  std::uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (text.empty() || error != std::errc() || end != text.data() + text.size()) return std::nullopt;
  return value;
}

// "bytes 5-9/10", "bytes 5-9/*" and "bytes */10" (RFC 9110, 14.4).
struct ContentRange {
  std::optional<std::uint64_t> first;
  std::optional<std::uint64_t> total;
};
ContentRange parse_content_range(std::string_view text) {
  ContentRange range;
  if (!text.starts_with("bytes ")) return range;
  text.remove_prefix(6);
  const std::size_t slash = text.find('/');
  if (slash == std::string_view::npos) return range;
  range.total = decimal(text.substr(slash + 1));
  range.first = decimal(text.substr(0, text.find('-')));
  return range;
}

bool is_redirect(int status) {
  return status == 301 || status == 302 || status == 303 || status == 307 || status == 308;
}

bool may_pass(int status) { return status == 408 || status == 429 || status >= 500; }

class Fetch {
 public:
  Fetch(const GuardedClient& client, const FetchSource& source, BlobWriter& into,
        const FetchOptions& options, Rng& rng)
      : client_(client),
        source_(source),
        into_(into),
        options_(options),
        rng_(rng),
        deadline_(SystemClock().now() + options.patience),
        known_by_digest_(into.offset() > 0 && options.etag.empty()),
        etag_(options.etag) {}

  Result<Fetched> run() {
    for (int failed = 1;; ++failed) {
      const std::uint64_t before = into_.offset();
      auto tried = attempt();
      if (!tried) return std::unexpected(std::move(tried).error());
      if (!*tried) return Fetched{.size = into_.offset(), .content_type = content_type_};
      if (into_.offset() - before >= kWorthATry) failed = 1;
      const bool late = SystemClock().now() >= deadline_;
      if (failed >= options_.retry.tries || late) return std::unexpected(problem(**tried));
      pause(retry_pause(options_.retry, failed, rng_));
      TRY(tell());
    }
  }

 private:
  // Why it may be tried again; nullopt: all is there. An Error: nothing helps.
  using Tried = Result<std::optional<std::string>>;

  Error problem(std::string_view why) const {
    return refuse(reason::kSourceFailed, fmt::format("{}: {}", source_.shown, why)).error();
  }
  std::unexpected<Error> give_up(std::string_view why) const {
    return std::unexpected(problem(why));
  }

  void pause(Duration duration) const {
    if (options_.sleep) {
      options_.sleep(duration);
    } else {
      std::this_thread::sleep_for(duration);
    }
  }

  Headers headers_for(const WebUrl& url) const {
    Headers headers;
    if (into_.offset() > 0) headers.add("Range", fmt::format("bytes={}-", into_.offset()));
    if (into_.offset() > 0 && !etag_.empty()) headers.add("If-Range", etag_);
    headers.add("Accept-Encoding", "identity");
    if (!source_.s3 || !source_.s3->credentials) return headers;
    headers.add("Host", url.authority());
    const std::string nothing = to_string(sha256(""));
    const Headers all =
        sign_v4({.method = "GET",
                 .path = url.target,
                 .query = {},
                 .headers = std::move(headers),
                 .sha256 = nothing},
                *source_.s3->credentials, source_.s3->service.region, SystemClock().wall_now());
    Headers signed_headers;
    for (std::size_t i = 0; i < all.size(); ++i)
      if (all[i].name != "host") signed_headers.add(all[i].name, all[i].value);
    return signed_headers;
  }

  Tried attempt() {
    WebUrl url = source_.url;
    for (int redirects = 0; redirects <= kMostRedirects; ++redirects) {
      const auto reply = client_.download(
          {.url = url,
           .headers = headers_for(url),
           .stall = options_.stall,
           .patience = std::max(deadline_ - SystemClock().now(), Duration(std::chrono::seconds(1))),
           .on_head = [&](int status,
                          const Headers& headers) { return own_ = begin(status, headers); },
           .take = [&](std::string_view piece) { return own_ = take(piece); }});
      if (!own_) return std::unexpected(own_.error());
      if (!reply) return judge_error(reply.error());
      if (!is_redirect(reply->status) || source_.s3) return judge_reply(*reply);
      url = TRY(redirected(url, reply->headers.find("Location").value_or("")));
    }
    return give_up(fmt::format("it redirects more than {} times", kMostRedirects));
  }

  Tried judge_error(const Error& error) const {
    const bool passes = error.reason.empty() &&
                        (error.code == Code::Unavailable || error.code == Code::DeadlineExceeded ||
                         error.code == Code::Cancelled);
    if (passes) return error.message;
    if (!error.reason.empty() || error.code == Code::PermissionDenied)
      return std::unexpected(error);
    return give_up(error.message);
  }

  Tried judge_reply(const GuardedClient::Reply& reply) const {
    if (reply.status == 200 || reply.status == 206) {
      if (reply.whole && (!total_ || into_.offset() == *total_)) return std::nullopt;
      return "the connection breaks off";
    }
    if (reply.status == 416 && into_.offset() > 0) {
      const auto range = parse_content_range(reply.headers.find("Content-Range").value_or(""));
      if (range.total == into_.offset()) return std::nullopt;
      return give_up("it is shorter than what came of it before: it has changed");
    }
    std::string answer = fmt::format("it answers {}", reply.status);
    if (may_pass(reply.status)) return answer;
    if (reply.status == 401 || reply.status == 403)
      return give_up(answer + ": it may not be read with these credentials, or without");
    return give_up(answer);
  }

  Result<WebUrl> redirected(const WebUrl& from, std::string_view location) const {
    if (location.starts_with('/') && !location.starts_with("//")) {
      const WebUrl place{.tls = from.tls, .host = from.host, .port = from.port, .target = "/"};
      const std::string text =
          fmt::format("{}://{}{}", from.tls ? "https" : "http", place.authority(), location);
      if (auto url = parse_web_url(text)) return url;
    } else if (auto url = parse_web_url(location)) {
      if (!from.tls || url->tls) return url;
      return give_up("it redirects from https to http");
    }
    return give_up("it redirects to what is no address");
  }

  // Of a 2xx reply: whether what follows is what is wanted.
  Status begin(int status, const Headers& headers) {
    if (status < 200 || status >= 300) return {};
    if (status != 200 && status != 206) return give_up(fmt::format("it answers {}", status));
    const auto coding = headers.find("Content-Encoding").value_or("identity");
    if (!equals_ignoring_case(coding, "identity")) {
      return give_up(fmt::format("it is sent as {}, which was not asked for",
                                 printable(coding, kLongestWord)));
    }
    TRY(check_same(headers));
    const auto length = decimal(headers.find("Content-Length").value_or(""));
    if (!length && !headers.has_token("Transfer-Encoding", "chunked"))
      return give_up("it does not say how long it is, so that nobody could tell when it is cut");
    skip_ = status == 200 ? into_.offset() : 0;
    std::optional<std::uint64_t> total = length;
    if (status == 206) {
      const auto range = parse_content_range(headers.find("Content-Range").value_or(""));
      if (range.first != into_.offset()) return give_up("it sends another part than was asked for");
      total = range.total;
      if (!total && length) total = *length + into_.offset();
    }
    if (total_ && total && total_ != total) return changed();
    if (total) total_ = total;
    if (total_.value_or(0) > options_.most.count) return too_large();
    content_type_ = printable(headers.find("Content-Type").value_or(""), kLongestWord);
    return {};
  }

  // Strong ones only: a weak ETag does not speak of bytes.
  Status check_same(const Headers& headers) {
    std::string etag(headers.find("ETag").value_or(""));
    if (!etag.starts_with('"') || etag.size() > kLongestWord) etag.clear();
    const bool first = into_.offset() == 0 || (known_by_digest_ && etag_.empty());
    if (!first && (etag_.empty() || etag != etag_)) return changed();
    if (first) etag_ = std::move(etag);
    return {};
  }

  std::unexpected<Error> changed() const {
    return give_up(
        "the connection broke off, and what it sends now may be something else (there is no "
        "strong ETag, or another one): fetch it anew");
  }

  std::unexpected<Error> too_large() const {
    return refuse(reason::kTooLarge,
                  fmt::format("{}: it has more than {} bytes", source_.shown, options_.most.count));
  }

  Status take(std::string_view piece) {
    const std::uint64_t skip = std::min<std::uint64_t>(skip_, piece.size());
    skip_ -= skip;
    piece.remove_prefix(skip);
    if (piece.empty()) return {};
    if (piece.size() > options_.most.count - std::min(into_.offset(), options_.most.count))
      return too_large();
    TRY(into_.append(std::as_bytes(std::span(piece))));
    return tell();
  }

  Status tell() const {
    if (!options_.on_progress) return {};
    return options_.on_progress({.received = into_.offset(), .total = total_, .etag = etag_});
  }

  const GuardedClient& client_;
  const FetchSource& source_;
  BlobWriter& into_;
  const FetchOptions& options_;
  Rng& rng_;
  const TimePoint deadline_;
  const bool known_by_digest_;
  std::string etag_;
  std::string content_type_;
  std::optional<std::uint64_t> total_;
  std::uint64_t skip_ = 0;
  Status own_;  // what ends it whatever may be tried again: of the writer, of who watches, of mine
};

}  // namespace

Result<FetchSource> parse_fetch_source(std::string_view text, const S3Access& s3) {
  if (!text.starts_with("s3://")) {
    WebUrl url = TRY(parse_web_url(text));
    std::string shown = url.shown();
    return FetchSource{.shown = std::move(shown), .url = std::move(url)};
  }
  S3Address address = TRY(parse_s3_address(text));
  if (address.key.empty() || address.key.ends_with('/')) {
    return refuse(reason::kInvalidSetting,
                  fmt::format("'{}' names no object: it must be s3://BUCKET/KEY", text));
  }
  const S3Place place = TRY(S3Place::create(s3.service, address.bucket));
  const S3Target target = place.target(address.key);
  return FetchSource{.shown = address.text(),
                     .url = {.tls = target.server.tls,
                             .host = target.server.host,
                             .port = target.server.port,
                             .target = target.path},
                     .s3 = s3};
}

Result<Fetched> fetch(const GuardedClient& client, const FetchSource& source, BlobWriter& into,
                      const FetchOptions& options, Rng& rng) {
  return Fetch(client, source, into, options, rng).run();
}

}  // namespace mayfly
