// The certificates of the gRPC server. Connections keep the one that they began with; each new one
// gets what was given last. gRPC asks for it at every handshake, on threads of its own.
#pragma once

#include <grpcpp/security/server_credentials.h>

#include <cstdint>
#include <memory>
#include <mutex>

#include "net/tls.h"

namespace mayfly {

// Any thread. TLS 1.2 and 1.3, forward secrecy and authenticated ciphers only: gRPC's own choice.
class RpcTls : public std::enable_shared_from_this<RpcTls> {
 public:
  enum class Clients : std::uint8_t { Anybody, WithCertificate };
  explicit RpcTls(Clients clients) : clients_(clients) {}

  // The first time before a server begins.
  void use(TlsPem pem);
  Clients clients() const { return clients_; }

  // For one server, which they outlive; they keep me.
  std::shared_ptr<grpc::ServerCredentials> credentials();

 private:
  class ServerCredentials;

  const Clients clients_;
  std::mutex mutex_;
  TlsPem pem_;                 // guarded by mutex_
  std::uint64_t version_ = 0;  // guarded by mutex_: of pem_
};

}  // namespace mayfly
