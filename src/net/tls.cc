#include "net/tls.h"

#include <arpa/inet.h>
#include <fmt/format.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include <array>
#include <cstring>
#include <ctime>
#include <string_view>

#include "base/check.h"

namespace mayfly {
namespace {

// Forward secrecy and an AEAD, and nothing else, where TLS 1.2 leaves a choice. Those of TLS 1.3
// all are so.
constexpr const char* kCiphers = "ECDHE+AESGCM:ECDHE+CHACHA20";
constexpr std::array<unsigned char, 9> kProtocol{8, 'h', 't', 't', 'p', '/', '1', '.', '1'};
constexpr long kSessionSeconds = 300;

std::string openssl_error() {
  const unsigned long first = ERR_peek_error();
  const unsigned long last = ERR_peek_last_error();
  ERR_clear_error();
  if (ERR_SYSTEM_ERROR(first)) return fmt::format(": {}", std::strerror(ERR_GET_REASON(first)));
  const char* text = last != 0 ? ERR_reason_error_string(last) : nullptr;
  return text != nullptr ? fmt::format(": {}", text) : std::string();
}

std::unexpected<Error> bad_file(const Path& file, std::string_view what) {
  return fail(Code::InvalidArgument, fmt::format("{}: {}{}", file.native(), what, openssl_error()),
              "invalid_setting");
}

// A key with a passphrase is refused rather than asked for on the terminal.
int no_passphrase(char*, int, int, void*) { return 0; }

// Clients that offer protocols must offer ours (RFC 7301 §3.2).
int choose_protocol(SSL*, const unsigned char** chosen, unsigned char* size,
                    const unsigned char* offered, unsigned offered_size, void*) {
  unsigned char* match = nullptr;
  if (SSL_select_next_proto(&match, size, kProtocol.data(), kProtocol.size(), offered,
                            offered_size) != OPENSSL_NPN_NEGOTIATED) {
    return SSL_TLSEXT_ERR_ALERT_FATAL;
  }
  *chosen = match;
  return SSL_TLSEXT_ERR_OK;
}

std::shared_ptr<SSL_CTX> make_context(const SSL_METHOD* method) {
  std::shared_ptr<SSL_CTX> context(SSL_CTX_new(method), &SSL_CTX_free);
  CHECK(context && SSL_CTX_set_cipher_list(context.get(), kCiphers) == 1);
  SSL_CTX_set_min_proto_version(context.get(), TLS1_2_VERSION);
  SSL_CTX_set_options(context.get(), SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION |
                                         SSL_OP_CIPHER_SERVER_PREFERENCE |
                                         SSL_OP_PRIORITIZE_CHACHA);
  // Partial and moving writes: replies are sent in records as the socket takes them. Buffers of
  // idle connections are given back.
  SSL_CTX_set_mode(context.get(), SSL_MODE_ENABLE_PARTIAL_WRITE |
                                      SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER |
                                      SSL_MODE_RELEASE_BUFFERS);
  SSL_CTX_set_read_ahead(context.get(), 1);  // one recv a record, not one for its header too
  SSL_CTX_set_session_cache_mode(context.get(), SSL_SESS_CACHE_OFF);
  SSL_CTX_set_timeout(context.get(), kSessionSeconds);
  SSL_CTX_set_default_passwd_cb(context.get(), no_passphrase);
  ERR_clear_error();
  return context;
}

Status use_pair(SSL_CTX* context, const Path& certificate, const Path& key) {
  if (SSL_CTX_use_certificate_chain_file(context, certificate.c_str()) != 1) {
    return bad_file(certificate, "no certificate can be read from it");
  }
  if (SSL_CTX_use_PrivateKey_file(context, key.c_str(), SSL_FILETYPE_PEM) != 1) {
    // A key that does not fit the certificate is noticed here already.
    return bad_file(key, fmt::format("no private key of {} can be read from it (PEM, without a "
                                     "passphrase)",
                                     certificate.native()));
  }
  if (SSL_CTX_check_private_key(context) != 1) {
    return bad_file(key, fmt::format("is not the key of {}", certificate.native()));
  }
  return {};
}

Status demand_client_certificates(SSL_CTX* context, const Path& ca) {
  STACK_OF(X509_NAME)* names = SSL_load_client_CA_file(ca.c_str());
  if (names == nullptr || SSL_CTX_load_verify_file(context, ca.c_str()) != 1) {
    sk_X509_NAME_pop_free(names, X509_NAME_free);
    return bad_file(ca, "no certificate can be read from it");
  }
  SSL_CTX_set_client_CA_list(context, names);
  SSL_CTX_set_verify(context, SSL_VERIFY_PEER | SSL_VERIFY_FAIL_IF_NO_PEER_CERT, nullptr);
  return {};
}

bool is_numeric(const std::string& host) {
  std::array<unsigned char, sizeof(in6_addr)> address{};
  return ::inet_pton(AF_INET, host.c_str(), address.data()) == 1 ||
         ::inet_pton(AF_INET6, host.c_str(), address.data()) == 1;
}

}  // namespace

void TlsFree::operator()(ssl_st* session) const { SSL_free(session); }

Result<TlsContext> TlsContext::server(const TlsServerFiles& files) {
  std::shared_ptr<SSL_CTX> context = make_context(TLS_server_method());
  TRY(use_pair(context.get(), files.certificate, files.key));
  if (!files.client_ca.empty()) {
    TRY(demand_client_certificates(context.get(), files.client_ca));
  }
  // A resumed session is not asked for its certificate again, and each one renews its ticket: a
  // certificate that has expired would live on.
  const bool may_resume = files.client_ca.empty();
  if (!may_resume) SSL_CTX_set_options(context.get(), SSL_OP_NO_TICKET);
  SSL_CTX_set_alpn_select_cb(context.get(), choose_protocol, nullptr);
  SSL_CTX_set_num_tickets(context.get(), may_resume ? 1 : 0);
  return TlsContext(std::move(context));
}

Result<TlsContext> TlsContext::client(const TlsClientFiles& files) {
  std::shared_ptr<SSL_CTX> context = make_context(TLS_client_method());
  if (files.ca.empty()) {
    CHECK(SSL_CTX_set_default_verify_paths(context.get()) == 1);
    ERR_clear_error();  // stores that are not there are not used
  } else if (SSL_CTX_load_verify_file(context.get(), files.ca.c_str()) != 1) {
    return bad_file(files.ca, "no certificate can be read from it");
  }
  if (!files.more_ca.empty() &&
      SSL_CTX_load_verify_file(context.get(), files.more_ca.c_str()) != 1) {
    return bad_file(files.more_ca, "no certificate can be read from it");
  }
  if (files.certificate.empty() != files.key.empty()) {
    return fail(Code::InvalidArgument, "a client's certificate and its key are given together");
  }
  if (!files.certificate.empty()) {
    TRY(use_pair(context.get(), files.certificate, files.key));
  }
  SSL_CTX_set_verify(context.get(), SSL_VERIFY_PEER, nullptr);
  CHECK(SSL_CTX_set_alpn_protos(context.get(), kProtocol.data(), kProtocol.size()) == 0);
  return TlsContext(std::move(context));
}

TlsSession TlsContext::accept() const {
  TlsSession session(SSL_new(context_.get()));
  CHECK(session != nullptr);
  SSL_set_accept_state(session.get());
  return session;
}

TlsSession TlsContext::connect(const std::string& host) const {
  TlsSession session(SSL_new(context_.get()));
  CHECK(session != nullptr);
  SSL_set_connect_state(session.get());
  if (is_numeric(host)) {
    CHECK(X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(session.get()), host.c_str()) == 1);
  } else {
    SSL_set_hostflags(session.get(), X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
    CHECK(SSL_set1_host(session.get(), host.c_str()) == 1);
    CHECK(SSL_set_tlsext_host_name(session.get(), host.c_str()) == 1);
  }
  return session;
}

TlsPem TlsContext::pem() const {
  TlsPem texts;
  const auto write = [](const auto& write_to) {
    const std::unique_ptr<BIO, decltype(&BIO_free)> memory(BIO_new(BIO_s_mem()), &BIO_free);
    CHECK(memory != nullptr);
    CHECK(write_to(memory.get()) == 1);
    const char* bytes = nullptr;
    const long size = BIO_get_mem_data(memory.get(), &bytes);
    return std::string(bytes, static_cast<std::size_t>(size));
  };
  const auto add = [&write](std::string& to, X509* certificate) {
    to += write([&](BIO* memory) { return PEM_write_bio_X509(memory, certificate); });
  };
  add(texts.certificate, SSL_CTX_get0_certificate(context_.get()));
  STACK_OF(X509)* chain = nullptr;
  SSL_CTX_get0_chain_certs(context_.get(), static_cast<void*>(&chain));
  for (int i = 0; i < sk_X509_num(chain); ++i) add(texts.certificate, sk_X509_value(chain, i));
  texts.key = write([&](BIO* memory) {
    return PEM_write_bio_PrivateKey(memory, SSL_CTX_get0_privatekey(context_.get()), nullptr,
                                    nullptr, 0, nullptr, nullptr);
  });
  if (SSL_CTX_get_verify_mode(context_.get()) == SSL_VERIFY_NONE) return texts;
  STACK_OF(X509)* trusted = X509_STORE_get1_all_certs(SSL_CTX_get_cert_store(context_.get()));
  for (int i = 0; i < sk_X509_num(trusted); ++i) add(texts.client_ca, sk_X509_value(trusted, i));
  sk_X509_pop_free(trusted, X509_free);
  return texts;
}

WallTime TlsContext::expires() const {
  const X509* certificate = SSL_CTX_get0_certificate(context_.get());
  std::tm end{};
  if (certificate == nullptr || ASN1_TIME_to_tm(X509_get0_notAfter(certificate), &end) != 1) {
    return WallTime();
  }
  return std::chrono::time_point_cast<Duration>(
      std::chrono::system_clock::from_time_t(::timegm(&end)));
}

}  // namespace mayfly
