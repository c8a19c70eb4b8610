#include "gateway/token_issuers.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "core/caller_reason.h"
#include "core/printable.h"
#include "core/reason.h"
#include "identity/jwt.h"
#include "net/http_client.h"

namespace mayfly {
namespace {

using namespace std::chrono_literals;

constexpr Duration kLongestFetch = 10s;
constexpr std::size_t kFetchers = 4;  // threads: an issuer that hangs holds up few others
constexpr std::size_t kTokensKept = 4096;
constexpr Duration kFetchUrl = 10min;
constexpr Duration kFetchFile = 10s;
constexpr Duration kFetchForUnknown = 30s;

}  // namespace

struct TokenIssuers::Live {
  Live(Loop& loop, TokenIssuer issuer, std::move_only_function<void()> on_time)
      : mapping(std::move(issuer)), timer(loop, std::move(on_time)) {}

  const TokenIssuer mapping;
  std::shared_ptr<const KeySet> keys = std::make_shared<const KeySet>();
  std::string text;   // what `keys` were read from
  std::string error;  // of the last fetch; empty: it went well
  bool fetching = false;
  TimePoint fetched{};  // begun to be, last
  std::vector<Promise<void>> waiting;
  Timer timer;
};

TokenIssuers::TokenIssuers(Loop& loop, std::vector<TokenIssuer> issuers, Fetch fetch)
    : loop_(loop),
      fetch_(std::move(fetch)),
      pool_(loop, "issuers", std::clamp<std::size_t>(issuers.size(), 1, kFetchers)),
      cache_(kTokensKept),
      inside_(loop) {
  for (TokenIssuer& issuer : issuers) {
    const std::size_t index = issuers_.size();
    issuers_.push_back(std::make_unique<Live>(loop, std::move(issuer), [this, index] {
      if (!issuers_[index]->fetching) loop_.spawn(refresh(*issuers_[index]));
    }));
  }
}

void TokenIssuers::start() {
  for (const auto& issuer : issuers_) loop_.spawn(refresh(*issuer));
}

TokenIssuers::~TokenIssuers() = default;

TokenIssuers::Live* TokenIssuers::find(std::string_view issuer) const {
  const auto found = std::ranges::find_if(
      issuers_, [&](const auto& live) { return live->mapping.issuer == issuer; });
  return found == issuers_.end() ? nullptr : found->get();
}

Result<PrincipalRef> TokenIssuers::check(std::string_view text) {
  const WallTime now = loop_.clock().wall_now();
  const Digest digest = sha256(text);
  if (PrincipalRef known = cache_.find(digest, now)) return known;
  const Token token = TRY(parse_token(text));
  const Live* issuer = find(token.issuer);
  if (issuer == nullptr) {
    return refuse(reason::kUnauthenticated,
                  fmt::format("the token is not accepted: nobody here trusts its issuer '{}'",
                              printable(token.issuer, 100)));
  }
  TRY(verify_signature(token, *issuer->keys));
  const WallTime ends = TRY(check_claims(token, issuer->mapping.audience, now));
  PrincipalRef who = TRY(principal_of(issuer->mapping, token.claims));
  cache_.add(digest, who, ends);
  return who;
}

bool TokenIssuers::may_learn(std::string_view text) const {
  const auto token = parse_token(text);
  const Live* issuer = token ? find(token->issuer) : nullptr;
  if (issuer == nullptr || issuer->keys->find(token->key_id) != nullptr) return false;
  return issuer->fetching || loop_.now() - issuer->fetched >= kFetchForUnknown;
}

Task<void> TokenIssuers::learn(std::string text) {
  const auto hold = inside_.hold();
  const auto token = parse_token(text);
  Live* issuer = hold && token ? find(token->issuer) : nullptr;
  if (issuer == nullptr) co_return;
  Future<void> fetched(loop_);
  issuer->waiting.push_back(fetched.promise());
  if (!issuer->fetching) loop_.spawn(refresh(*issuer));
  (void)co_await fetched;
}

Task<void> TokenIssuers::refresh(Live& issuer) {
  const auto hold = inside_.hold();
  if (!hold) co_return;
  issuer.fetching = true;
  issuer.fetched = loop_.now();
  struct Fetched {
    std::string text;
    Result<KeySet> keys;
  };
  const auto fetch = [&]() -> Fetched {
    auto text = fetch_(issuer.mapping);
    if (!text) return {.text = {}, .keys = std::unexpected(std::move(text).error())};
    auto keys = KeySet::parse(*text);
    return {.text = *std::move(text), .keys = std::move(keys)};
  };
  Fetched fetched = co_await pool_.run(fetch);
  issuer.fetching = false;
  take(issuer, fetched.text, std::move(fetched.keys));
  if (!inside_.closed()) issuer.timer.arm_in(issuer.mapping.has_url() ? kFetchUrl : kFetchFile);
  for (Promise<void>& waiting : std::exchange(issuer.waiting, {})) waiting.set();
}

void TokenIssuers::take(Live& issuer, const std::string& text, Result<KeySet> keys) {
  const std::string error = keys ? std::string() : keys.error().message;
  if (error != std::exchange(issuer.error, error) && !keys) {
    LOG(error, "an issuer's keys cannot be read; those that were read last go on to hold",
        {"issuer", issuer.mapping.issuer}, {"jwks", issuer.mapping.jwks}, {"error", error});
  }
  if (!keys || text == issuer.text) return;
  LOG(info, "keys of an issuer read", {"issuer", issuer.mapping.issuer}, {"keys", keys->size()});
  for (const std::string& why : keys->left_out()) {
    LOG(warn, "a key of an issuer cannot be used", {"issuer", issuer.mapping.issuer}, {"why", why});
  }
  issuer.text = text;
  issuer.keys = std::make_shared<const KeySet>(*std::move(keys));
  cache_.clear();  // a key that is gone verifies nothing any more
}

Task<void> TokenIssuers::close() {
  for (const auto& issuer : issuers_) issuer->timer.cancel();
  co_await inside_.close();
}

Result<std::string> fetch_keys(const TokenIssuer& issuer) {
  if (!issuer.has_url()) return read_file(issuer.jwks, KeySet::kMaxText);
  Url url = TRY(parse_url(issuer.jwks));
  const bool is_folder = url.prefix.empty() || issuer.jwks.ends_with('/');
  HttpClient client(std::move(url), {.connect_timeout = 3s,
                                     .stall_timeout = 3s,
                                     .reply_timeout = 5s,
                                     .collected_limit = Bytes{KeySet::kMaxText},
                                     .tls = {.ca = issuer.ca}});
  // Piece by piece, so that whoever sends slowly for ever is given up.
  std::string body;
  const SystemClock clock;
  const TimePoint patient_until = clock.now() + kLongestFetch;
  ClientRequest request{.target = is_folder ? "/" : "",
                        .headers = {{"Accept", "application/json"}},
                        .sink = [&](std::string_view piece) -> Status {
                          if (clock.now() > patient_until)
                            return fail(Code::DeadlineExceeded, "the keys come too slowly");
                          if (body.size() + piece.size() > KeySet::kMaxText)
                            return fail(Code::InvalidArgument, "the keys are too large");
                          body += piece;
                          return {};
                        }};
  const ClientResponse response = TRY(client.send(std::move(request)));
  if (response.status == 200) return body;
  return fail(Code::Unavailable, fmt::format("{} answered {}", issuer.jwks, response.status));
}

}  // namespace mayfly
