// What TLS needs to know before a connection: certificates, keys, whom to trust. A TlsContext is
// read from files once and never changes; new files make a new one, and connections keep the one
// that they began with. OpenSSL; TLS 1.2 and 1.3, ALPN "http/1.1".
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/clock.h"
#include "base/file.h"
#include "base/result.h"

struct ssl_st;
struct ssl_ctx_st;

namespace mayfly {

// All are PEM files; an empty path is none.
struct TlsServerFiles {
  Path certificate;  // with its chain, leaf first
  Path key;
  Path client_ca = {};  // when named: clients must show a certificate that one of these issued
  bool operator==(const TlsServerFiles&) const = default;
};

struct TlsClientFiles {
  Path ca = {};           // whom to trust; without, the system's store
  Path more_ca = {};      // whom to trust besides
  Path certificate = {};  // shown to a server that asks for one, with its key
  Path key = {};
};

// The verified certificate of the other side.
struct PeerCertificate {
  std::string common_name;
  std::vector<std::string> names;  // subject alternative names: "DNS:…", "URI:…", "email:…", "IP:…"
};

// Of a certificate that was verified elsewhere, as PEM; nullopt: it has expired since, or is none.
std::optional<PeerCertificate> parse_peer_certificate(std::string_view pem);

// What a server's context was made of, for who brings a TLS of his own.
struct TlsPem {
  std::string certificate;  // with its chain, leaf first
  std::string key;
  std::string client_ca;  // empty: clients need not show a certificate
  bool operator==(const TlsPem&) const = default;
};

struct TlsFree {
  void operator()(ssl_st* session) const;
};
// One connection's state; net/transport.h moves its bytes.
using TlsSession = std::unique_ptr<ssl_st, TlsFree>;

class TlsContext {
 public:
  // Both read files, so they block. InvalidArgument: which file, what is wrong with it.
  static Result<TlsContext> server(const TlsServerFiles& files);
  static Result<TlsContext> client(const TlsClientFiles& files);

  TlsSession accept() const;
  // The server's certificate must be trusted and name `host` (a name or a numeric address).
  TlsSession connect(const std::string& host) const;

  // Of a server's context.
  TlsPem pem() const;
  // When the own certificate ends; the epoch without one.
  WallTime expires() const;

 private:
  explicit TlsContext(std::shared_ptr<ssl_ctx_st> context) : context_(std::move(context)) {}
  std::shared_ptr<ssl_ctx_st> context_;
};

}  // namespace mayfly
