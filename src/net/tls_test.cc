#include "net/tls.h"

#include <array>
#include <string>

#include "net/http_client.h"
#include "net/testing/server_thread.h"
#include "net/testing/test_certificates.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

// Answers with who asks, and the body.
Task<void> answer_by_certificate(Exchange& exchange) {
  std::string text = "nobody";
  if (const PeerCertificate* certificate = exchange.peer_certificate()) {
    text = certificate->common_name;
    for (const std::string& name : certificate->names) text += " " + name;
  }
  std::array<std::byte, 100'000> piece;
  while (true) {
    const Result<std::size_t> got = co_await exchange.read_some(piece);
    if (!got || *got == 0) break;
    text.append(reinterpret_cast<const char*>(piece.data()), *got);
  }
  Response response{.status = 200, .headers = {}, .body = std::move(text)};
  (void)co_await exchange.respond(std::move(response));
}

Task<void> send_many_parts(Exchange& exchange) {
  auto text = std::make_shared<std::string>(3'000'000, 'y');
  SharedBytes body{.parts = {}, .owner = text};
  // Small and large parts in turn: gathered into records, and encrypted from where they lie.
  const std::string_view all(*text);
  for (std::size_t at = 0, size = 1; at < all.size(); at += size, size = size * 7 % 50'021) {
    size = std::min(size, all.size() - at);
    body.parts.push_back(std::as_bytes(std::span(all.substr(at, size))));
  }
  Response response{.status = 200, .headers = {}, .body = std::move(body)};
  (void)co_await exchange.respond(std::move(response));
}

Task<void> stream_lines(Exchange& exchange) {
  (void)co_await exchange.start(200, {});
  for (const char* line : {"one\n", "two\n", "three\n"}) (void)co_await exchange.write(line);
  if (exchange.head().target != "/cut") (void)co_await exchange.finish();
}

struct Fixture {
  TempDir folder = TempDir::create().value();
  TestAuthority authority{folder.path(), "authority"};

  TlsContext server(const CertificateWish& wish = {}) const {
    return TlsContext::server(authority.issue("server", wish)).value();
  }
  TlsServerFiles server_for_clients_of(const Path& ca) const {
    TlsServerFiles files = authority.issue("server");
    files.client_ca = ca;
    return files;
  }
};

HttpClient client_of(const std::string& url, TlsClientFiles files) {
  return {parse_url(url).value(), {.tls = std::move(files)}};
}

}  // namespace

TEST_CASE("a TLS server answers who trusts it, by name and by address, on a kept connection") {
  const Fixture with;
  ServerThread server(answer_by_certificate);
  server.set_tls(with.server());
  for (const std::string& host : {"localhost", "127.0.0.1"}) {
    HttpClient client = client_of("https://" + host + ":" + std::to_string(server.port()),
                                  {.ca = with.authority.file()});
    for (int i = 0; i < 3; ++i) CHECK(client.send({})->body == "nobody");
  }
}

TEST_CASE("bodies and replies of many megabytes pass through TLS unchanged") {
  const Fixture with;
  ServerThread server(answer_by_certificate);
  server.set_tls(with.server());
  HttpClient client = client_of(server.https_url(), {.ca = with.authority.file()});
  std::string big;
  for (int i = 0; big.size() < 8'000'000; ++i) big += std::to_string(i);
  const Result<ClientResponse> echoed = client.send({.method = "POST", .body = big});
  REQUIRE(echoed);
  CHECK(echoed->body == "nobody" + big);

  ServerThread parts(send_many_parts);
  parts.set_tls(with.server());
  HttpClient other = client_of(parts.https_url(), {.ca = with.authority.file()});
  CHECK(other.send({})->body == std::string(3'000'000, 'y'));
}

TEST_CASE("a streamed reply over TLS is whole, or seen to be cut") {
  const Fixture with;
  ServerThread server(stream_lines);
  server.set_tls(with.server());
  HttpClient client = client_of(server.https_url(), {.ca = with.authority.file()});
  CHECK(client.send({.target = "/whole"})->body == "one\ntwo\nthree\n");
  const Result<ClientResponse> cut = client.send({.target = "/cut"});
  REQUIRE_FALSE(cut);
  CHECK(cut.error().code == Code::Cancelled);
}

TEST_CASE("a certificate that is not trusted, expired, not yet valid or of another is refused") {
  const Fixture with;
  const TestAuthority stranger(with.folder.path(), "stranger");
  const struct {
    CertificateWish wish;
    Path trusted;
    std::string why;
  } cases[] = {
      {{}, stranger.file(), "unable to get local issuer certificate"},
      {{}, {}, "unable to get local issuer certificate"},
      {{.ends = std::chrono::hours(-1)}, with.authority.file(), "certificate has expired"},
      {{.begins = std::chrono::hours(1)}, with.authority.file(), "certificate is not yet valid"},
      {{.names = "DNS:other,IP:127.0.0.9"}, with.authority.file(), "hostname mismatch"},
      // The common name is not looked at when there are other names.
      {{.common_name = "localhost", .names = "DNS:x.localhost"},
       with.authority.file(),
       "hostname mismatch"},
  };
  for (const auto& test : cases) {
    CAPTURE(test.why);
    ServerThread server(answer_by_certificate);
    server.set_tls(with.server(test.wish));
    HttpClient client = client_of(server.https_url(), {.ca = test.trusted});
    const Result<ClientResponse> response = client.send({});
    REQUIRE_FALSE(response);
    CHECK(response.error().code == Code::Unauthenticated);
    CHECK(response.error().message.contains(test.why));
    CHECK(response.error().message.contains("--ca FILE"));
  }
}

TEST_CASE(
    "where client certificates are demanded, handlers see whose it is, and others are refused") {
  const Fixture with;
  const TestAuthority clients(with.folder.path(), "clients");
  ServerThread server(answer_by_certificate);
  server.set_tls(TlsContext::server(with.server_for_clients_of(clients.file())).value());
  const auto certificate_of = [&](const TestAuthority& issuer, const CertificateWish& wish) {
    const TlsServerFiles files = issuer.issue("client", wish);
    return TlsClientFiles{
        .ca = with.authority.file(), .certificate = files.certificate, .key = files.key};
  };
  HttpClient known = client_of(
      server.https_url(),
      certificate_of(clients, {.common_name = "alice", .names = "email:a@b,URI:spiffe://x/y"}));
  CHECK(known.send({})->body == "alice email:a@b URI:spiffe://x/y");
  CHECK(known.send({})->body == "alice email:a@b URI:spiffe://x/y");

  for (const TlsClientFiles& files :
       {TlsClientFiles{.ca = with.authority.file(), .certificate = {}, .key = {}},
        certificate_of(with.authority, {.common_name = "alice"}),
        certificate_of(clients, {.common_name = "alice", .ends = std::chrono::hours(-1)})}) {
    HttpClient unknown = client_of(server.https_url(), files);
    const Result<ClientResponse> response = unknown.send({});
    REQUIRE_FALSE(response);
    CHECK(response.error().code == Code::Unauthenticated);
    CHECK(response.error().message.contains("--client-cert"));
  }
}

TEST_CASE("a new certificate is for new connections; those that are open go on") {
  const Fixture with;
  const TestAuthority next(with.folder.path(), "next");
  ServerThread server(answer_by_certificate);
  server.set_tls(with.server());
  HttpClient early = client_of(server.https_url(), {.ca = with.authority.file()});
  CHECK(early.send({})->status == 200);
  server.set_tls(TlsContext::server(next.issue("server")).value());
  CHECK(early.send({})->status == 200);
  HttpClient late = client_of(server.https_url(), {.ca = next.file()});
  CHECK(late.send({})->status == 200);
  HttpClient outdated = client_of(server.https_url(), {.ca = with.authority.file()});
  CHECK_FALSE(outdated.send({}));
}

TEST_CASE("who speaks plain HTTP to a TLS port is told so") {
  const Fixture with;
  ServerThread server(answer_by_certificate);
  server.set_tls(with.server());
  RawClient client(server.port());
  client.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
  const std::string reply = client.read_to_end();
  CHECK(reply.starts_with("HTTP/1.1 400 "));
  CHECK(reply.contains("this port speaks HTTPS"));
  // And who speaks TLS to a plain one.
  ServerThread plain(answer_by_certificate);
  HttpClient https = client_of(plain.https_url(), {.ca = with.authority.file()});
  const Result<ClientResponse> response = https.send({});
  REQUIRE_FALSE(response);
  CHECK(response.error().message.contains("is it an https URL?"));
}

TEST_CASE("a server's context tells what it was made of") {
  const Fixture with;
  TlsServerFiles files = with.authority.issue("server", {.common_name = "leaf"});
  const std::string issuer = *read_file(with.authority.file());
  REQUIRE(write_file_durably(files.certificate, *read_file(files.certificate) + issuer));
  const TlsPem open = TlsContext::server(files)->pem();
  CHECK(open.certificate == *read_file(files.certificate));
  CHECK(open.client_ca.empty());
  files.client_ca = with.authority.file();
  CHECK(TlsContext::server(files)->pem().client_ca == issuer);
  // It is a pair again.
  const Path certificate = with.folder.path() / "c";
  const Path key = with.folder.path() / "k";
  REQUIRE(write_file_durably(certificate, open.certificate));
  REQUIRE(write_file_durably(key, open.key));
  CHECK(TlsContext::server({.certificate = certificate, .key = key})->pem() == open);
}

TEST_CASE("a certificate that was verified elsewhere is read until it ends") {
  const Fixture with;
  const auto text = [&](std::chrono::seconds ends) {
    const auto files = with.authority.issue("x", {.common_name = "alice", .ends = ends});
    return *read_file(files.certificate);
  };
  const auto alice = parse_peer_certificate(text(std::chrono::hours(1)));
  REQUIRE(alice.has_value());
  CHECK(alice->common_name == "alice");
  CHECK(alice->names == std::vector<std::string>{"DNS:localhost", "IP:127.0.0.1"});
  CHECK_FALSE(parse_peer_certificate(text(std::chrono::hours(-1))));
  for (const char* none :
       {"", "x", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"})
    CHECK_FALSE(parse_peer_certificate(none));
}

TEST_CASE("files that make no certificate are refused by name") {
  const Fixture with;
  const TlsServerFiles good = with.authority.issue("good");
  const TlsServerFiles other = with.authority.issue("other");
  const Path empty = with.folder.path() / "empty";
  REQUIRE(write_file_durably(empty, ""));
  const struct {
    TlsServerFiles files;
    Path named;
    std::string why;
  } cases[] = {
      {{.certificate = "/none", .key = good.key, .client_ca = {}}, "/none", "No such file"},
      {{.certificate = empty, .key = good.key, .client_ca = {}}, empty, "no certificate"},
      {{.certificate = good.certificate, .key = empty, .client_ca = {}}, empty, "no private key"},
      {{.certificate = good.certificate, .key = other.key, .client_ca = {}}, other.key, "mismatch"},
      {{.certificate = good.certificate, .key = good.key, .client_ca = empty},
       empty,
       "no certificate"},
  };
  for (const auto& test : cases) {
    const Result<TlsContext> context = TlsContext::server(test.files);
    REQUIRE_FALSE(context);
    CAPTURE(context.error().message);
    CHECK(context.error().code == Code::InvalidArgument);
    CHECK(context.error().message.starts_with(test.named.native() + ": "));
    CHECK(context.error().message.contains(test.why));
  }
  CHECK(TlsContext::server(good)->expires() > SystemClock().wall_now());
  CHECK_FALSE(TlsContext::client({.ca = {}, .certificate = good.certificate, .key = {}}));
}

}  // namespace mayfly
