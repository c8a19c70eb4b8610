#include "net/guarded_client.h"

#include <fmt/format.h>
#include <ifaddrs.h>

#include <algorithm>
#include <utility>

#include "core/reason.h"
#include "net/http_client.h"

namespace mayfly {
namespace {

constexpr Duration kLongestConnect = std::chrono::seconds(5);
constexpr Bytes kMostOfRefusal = kib(64);
constexpr int kFirstWithoutBody = 300;  // for who downloads

Result<std::vector<IpAddress>> interface_addresses() {
  ifaddrs* first = nullptr;
  if (::getifaddrs(&first) != 0) return fail_errno("list the node's addresses");
  const std::unique_ptr<ifaddrs, decltype(&::freeifaddrs)> owner(first, &::freeifaddrs);
  std::vector<IpAddress> addresses;
  for (const ifaddrs* next = first; next != nullptr; next = next->ifa_next) {
    if (next->ifa_addr == nullptr) continue;
    if (const auto address = ip_of(*next->ifa_addr)) addresses.push_back(*address);
  }
  return addresses;
}

Url plain_url(const WebUrl& url) {
  return {.tls = url.tls,
          .host = url.host,
          .port = url.port,
          .prefix = "",
          .unix_socket = "",
          .text = url.shown()};
}

Headers with_host(const Headers& headers, const WebUrl& url) {
  Headers all;
  all.add("Host", url.authority());
  for (std::size_t i = 0; i < headers.size(); ++i) all.add(headers[i].name, headers[i].value);
  return all;
}

}  // namespace

GuardedClient::World GuardedClient::this_machine() {
  return {.resolve = resolve_tcp, .own_addresses = interface_addresses};
}

Result<std::unique_ptr<GuardedClient>> GuardedClient::create(EgressPolicy policy, const Path& ca,
                                                             World world) {
  TlsContext trust = TRY(TlsContext::client({.more_ca = ca}));
  return std::unique_ptr<GuardedClient>(
      new GuardedClient(std::move(policy), std::move(trust), std::move(world)));
}

// Of several addresses those that may be asked; where there is none, why not the first.
Result<std::vector<SocketAddress>> GuardedClient::places_of(const WebUrl& url) const {
  auto resolved = world_.resolve(url.host, url.port);
  if (!resolved) {
    return fail(Code::Unavailable, fmt::format("the address of {} cannot be found: {}", url.host,
                                               resolved.error().message));
  }
  const std::vector<IpAddress> own = TRY(world_.own_addresses());
  std::vector<SocketAddress> places;
  Status first = fail(Code::Unavailable, fmt::format("{} has no address", url.host));
  for (const SocketAddress& place : *resolved) {
    const auto address = ip_of(place.get());
    if (!address) continue;
    Status allowed = policy_.check(url, *address, own);
    if (allowed) {
      places.push_back(place);
    } else if (first.error().code == Code::Unavailable) {
      first = std::move(allowed);
    }
  }
  if (places.empty()) return std::unexpected(std::move(first).error());
  return places;
}

Result<std::unique_ptr<HttpClient>> GuardedClient::client_for(const WebUrl& url,
                                                              const Bounds& bounds) const {
  if (stopped_) return refuse(reason::kDraining, "the node is shutting down");
  const TimePoint deadline = SystemClock().now() + bounds.patience;
  TRY(policy_.check_url(url));
  std::vector<SocketAddress> places = TRY(places_of(url));
  return std::make_unique<HttpClient>(plain_url(url),
                                      HttpClient::Options{.connect_timeout = kLongestConnect,
                                                          .stall_timeout = bounds.stall,
                                                          .reply_timeout = bounds.stall,
                                                          .collected_limit = bounds.most,
                                                          .tls = {},
                                                          .trust = trust_,
                                                          .addresses = std::move(places),
                                                          .deadline = deadline,
                                                          .stop = &stopped_,
                                                          .peer = "the server"});
}

Result<GuardedClient::Reply> GuardedClient::send(const Request& request) const {
  const auto client =
      TRY(client_for(request.url, {request.patience, request.patience, request.most}));
  Reply reply;
  const auto take = [&](std::string_view piece) -> Status {
    reply.body += piece.substr(0, request.most.count - reply.body.size());
    if (reply.body.size() < request.most.count) return {};
    return fail(Code::OutOfRange, "there is more than is read");
  };
  auto sent = client->send({.method = request.method,
                            .target = request.url.target,
                            .headers = with_host(request.headers, request.url),
                            .body = request.body,
                            .sink = take,
                            .on_head = [&](int status, const Headers& headers) {
                              reply.status = status;
                              reply.headers = headers;
                            }});
  if (sent) {
    if (!sent->body.empty()) reply.body = std::move(sent->body);
    return reply;
  }
  if (reply.status == 0) return std::unexpected(std::move(sent).error());
  reply.whole = false;
  return reply;
}

Result<GuardedClient::Reply> GuardedClient::download(const Download& request) const {
  const auto client =
      TRY(client_for(request.url, {request.stall, request.patience, kMostOfRefusal}));
  Reply reply;
  Status wanted;
  const auto take = [&](std::string_view piece) -> Status {
    if (wanted) wanted = request.take(piece);
    return wanted;
  };
  const auto sent = client->send({.method = "GET",
                                  .target = request.url.target,
                                  .headers = with_host(request.headers, request.url),
                                  .sink = take,
                                  .on_head = [&](int status, const Headers& headers) {
                                    reply.status = status;
                                    reply.headers = headers;
                                    wanted = request.on_head(status, headers);
                                  }});
  if (!wanted) return std::unexpected(std::move(wanted).error());
  if (!sent && reply.status == 0) return std::unexpected(sent.error());
  // What a refusal says besides its status is nobody's concern, and may be long.
  reply.whole = sent.has_value() || reply.status >= kFirstWithoutBody;
  return reply;
}

}  // namespace mayfly
