#include "grpc/rpc_tls.h"

#include <grpc/grpc.h>
#include <grpc/grpc_security.h>

#include <string>
#include <utility>

namespace mayfly {

// gRPC's C++ layer has no certificates that change but those it reads from files by itself; its
// core asks a function at each handshake.
class RpcTls::ServerCredentials final : public grpc::ServerCredentials {
 public:
  explicit ServerCredentials(std::shared_ptr<RpcTls> tls) : tls_(std::move(tls)) {
    const auto request = tls_->clients() == Clients::WithCertificate
                             ? GRPC_SSL_REQUEST_AND_REQUIRE_CLIENT_CERTIFICATE_AND_VERIFY
                             : GRPC_SSL_DONT_REQUEST_CLIENT_CERTIFICATE;
    credentials_ = grpc_ssl_server_credentials_create_with_options(
        grpc_ssl_server_credentials_create_options_using_config_fetcher(request, &fetch, this));
  }
  ~ServerCredentials() override { grpc_server_credentials_release(credentials_); }
  ServerCredentials(const ServerCredentials&) = delete;
  ServerCredentials& operator=(const ServerCredentials&) = delete;

  void SetAuthMetadataProcessor(const std::shared_ptr<grpc::AuthMetadataProcessor>&) override {}

 private:
  int AddPortToServer(const std::string& address, grpc_server* server) override {
    return grpc_server_add_http2_port(server, address.c_str(), credentials_);
  }

  // gRPC asks under a lock of its own.
  static grpc_ssl_certificate_config_reload_status fetch(
      void* self, grpc_ssl_server_certificate_config** config) {
    auto& mine = *static_cast<ServerCredentials*>(self);
    RpcTls& tls = *mine.tls_;
    const std::scoped_lock lock(tls.mutex_);
    if (std::exchange(mine.given_, tls.version_) == tls.version_) {
      return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_UNCHANGED;
    }
    const grpc_ssl_pem_key_cert_pair pair{.private_key = tls.pem_.key.c_str(),
                                          .cert_chain = tls.pem_.certificate.c_str()};
    // Some authority must be named even where nobody is asked for a certificate.
    const std::string& authority =
        tls.clients() == Clients::WithCertificate ? tls.pem_.client_ca : tls.pem_.certificate;
    *config = grpc_ssl_server_certificate_config_create(authority.c_str(), &pair, 1);
    return GRPC_SSL_CERTIFICATE_CONFIG_RELOAD_NEW;
  }

  const std::shared_ptr<RpcTls> tls_;
  grpc_server_credentials* credentials_;
  std::uint64_t given_ = 0;
};

void RpcTls::use(TlsPem pem) {
  const std::scoped_lock lock(mutex_);
  if (pem == pem_) return;
  pem_ = std::move(pem);
  ++version_;
}

std::shared_ptr<grpc::ServerCredentials> RpcTls::credentials() {
  return std::make_shared<ServerCredentials>(shared_from_this());
}

}  // namespace mayfly
