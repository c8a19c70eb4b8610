#include "net/transport.h"

#include <openssl/err.h>
#include <openssl/ssl.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "net/x509.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxParts = 1024;  // IOV_MAX
constexpr std::size_t kRecord = 16'384;  // the most a TLS record holds

}  // namespace

// OpenSSL's door to the socket: ours, because its own would read a socket that is known to be
// empty, and raise SIGPIPE.
struct Transport::Bio {
  static Transport& transport(BIO* bio) { return *static_cast<Transport*>(BIO_get_data(bio)); }

  static int read(BIO* bio, char* into, int size) {
    BIO_clear_retry_flags(bio);
    const std::span room(into, static_cast<std::size_t>(size));
    const Moved got = transport(bio).receive_plain(std::as_writable_bytes(room));
    if (got.progress == Progress::Some) return static_cast<int>(got.size);
    if (got.progress == Progress::End) return 0;
    BIO_set_retry_read(bio);
    return -1;
  }

  static int write(BIO* bio, const char* bytes, int size) {
    BIO_clear_retry_flags(bio);
    const iovec part{.iov_base = const_cast<char*>(bytes),
                     .iov_len = static_cast<std::size_t>(size)};
    const Moved sent = transport(bio).send_plain({&part, 1});
    if (sent.progress == Progress::Some) return static_cast<int>(sent.size);
    if (sent.progress == Progress::Blocked) BIO_set_retry_write(bio);
    return -1;
  }

  static long control(BIO*, int command, long, void*) { return command == BIO_CTRL_FLUSH ? 1 : 0; }

  static const BIO_METHOD* method() {
    static const BIO_METHOD* const made = [] {
      BIO_METHOD* methods = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "transport");
      CHECK(methods != nullptr);
      BIO_meth_set_read(methods, &Bio::read);
      BIO_meth_set_write(methods, &Bio::write);
      BIO_meth_set_ctrl(methods, &Bio::control);
      return methods;
    }();
    return made;
  }
};

Transport::Transport(Fd socket, TlsSession session)
    : socket_(std::move(socket)), session_(std::move(session)), shaking_(session_ != nullptr) {
  if (session_ == nullptr) return;
  BIO* bio = BIO_new(Bio::method());
  CHECK(bio != nullptr);
  BIO_set_data(bio, this);
  BIO_set_init(bio, 1);
  SSL_set_bio(session_.get(), bio, bio);  // owns it
}

Transport::~Transport() = default;

// --- plain ---

Transport::Moved Transport::receive_plain(std::span<std::byte> into) {
  waits_for_output_ = false;
  if (!readable_) return {Progress::Blocked};
  ssize_t got = 0;
  do {
    got = ::recv(socket_.get(), into.data(), into.size(), 0);
  } while (got < 0 && errno == EINTR);
  if (got < 0 && errno == EAGAIN) {
    readable_ = false;
    return {Progress::Blocked};
  }
  if (got <= 0) return {Progress::End};
  // A short read has emptied the socket: the next bytes are a new edge (epoll(7)). The end of the
  // stream is not, once it has been reported.
  if (static_cast<std::size_t>(got) < into.size() && !hangup_) readable_ = false;
  return {Progress::Some, static_cast<std::size_t>(got)};
}

Transport::Moved Transport::send_plain(std::span<const iovec> parts) {
  waits_for_output_ = true;
  if (!writable_) return {Progress::Blocked};
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(parts.data());
  message.msg_iovlen = std::min(parts.size(), kMaxParts);
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  if (sent >= 0) return {Progress::Some, static_cast<std::size_t>(sent)};
  if (errno != EAGAIN) return {Progress::End};
  writable_ = false;
  return {Progress::Blocked};
}

// --- TLS ---

// Why the other side ended the connection, if it said so.
void Transport::note_alert() {
  const unsigned long code = ERR_peek_error();
  if (ERR_GET_REASON(code) <= SSL_AD_REASON_OFFSET) return;
  if (const char* text = ERR_reason_error_string(code)) problem_ = text;
}

// What became of a call of OpenSSL, from its result.
Transport::Moved Transport::outcome_of(int result, std::size_t size) {
  if (result == 1) return {Progress::Some, size};
  switch (SSL_get_error(session_.get(), result)) {
    case SSL_ERROR_WANT_READ:
      waits_for_output_ = false;
      return {Progress::Blocked};
    case SSL_ERROR_WANT_WRITE:
      waits_for_output_ = true;
      return {Progress::Blocked};
    case SSL_ERROR_ZERO_RETURN:  // said good-bye; may still read
      return {Progress::End};
    default:
      broken_ = true;
      note_alert();
      return {Progress::End};
  }
}

// Bytes on the socket need not be input: TLS 1.3 sends tickets after the handshake.
bool Transport::has_input() {
  std::byte one{};
  if (session_ == nullptr) {
    return ::recv(socket_.get(), &one, 1, MSG_PEEK | MSG_DONTWAIT) >= 0 || errno != EAGAIN;
  }
  readable_ = true;
  ERR_clear_error();
  std::size_t got = 0;
  const int result = SSL_peek_ex(session_.get(), &one, 1, &got);
  return outcome_of(result, got).progress != Progress::Blocked;
}

Transport::Moved Transport::receive_tls(std::span<std::byte> into) {
  ERR_clear_error();
  std::size_t got = 0;
  const int result = SSL_read_ex(session_.get(), into.data(), into.size(), &got);
  return outcome_of(result, got);
}

// Small parts go into one record, and so into one packet, with those after them. A large part is
// encrypted from where it lies. Repeating a blocked call makes the same record again, as OpenSSL
// demands.
Transport::Moved Transport::send_tls(std::span<const iovec> parts) {
  if (broken_) return {Progress::End};
  std::array<std::byte, kRecord> record;
  const void* bytes = parts.front().iov_base;
  std::size_t size = std::min(parts.front().iov_len, kRecord);
  if (size < kRecord && parts.size() > 1) {
    bytes = record.data();
    size = 0;
    for (const iovec& part : parts) {
      const std::size_t some = std::min(part.iov_len, kRecord - size);
      std::memcpy(record.data() + size, part.iov_base, some);
      size += some;
      if (size == kRecord) break;
    }
  }
  ERR_clear_error();
  std::size_t sent = 0;
  const int result = SSL_write_ex(session_.get(), bytes, size, &sent);
  return outcome_of(result, sent);
}

Result<Transport::Progress> Transport::handshake() {
  if (!shaking_) return Progress::Some;
  ERR_clear_error();
  const int result = SSL_do_handshake(session_.get());
  if (result == 1) {
    shaking_ = false;
    return Progress::Some;
  }
  const int why = SSL_get_error(session_.get(), result);
  if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
    waits_for_output_ = why == SSL_ERROR_WANT_WRITE;
    return Progress::Blocked;
  }
  broken_ = true;
  return handshake_error(why);
}

std::unexpected<Error> Transport::handshake_error(int why) {
  const unsigned long code = ERR_peek_error();
  ERR_clear_error();
  const long verdict = SSL_get_verify_result(session_.get());
  if (verdict != X509_V_OK) {
    return fail(Code::Unauthenticated, X509_verify_cert_error_string(verdict));
  }
  if (why != SSL_ERROR_SSL || code == 0 ||
      ERR_GET_REASON(code) == SSL_R_UNEXPECTED_EOF_WHILE_READING) {
    return fail(Code::Cancelled, "the connection ended during the TLS handshake");
  }
  const char* text = ERR_reason_error_string(code);
  const std::string message(text != nullptr ? text : "TLS failed");
  switch (ERR_GET_REASON(code)) {
    case SSL_R_PEER_DID_NOT_RETURN_A_CERTIFICATE:
    case SSL_R_TLSV13_ALERT_CERTIFICATE_REQUIRED:
    case SSL_R_TLSV1_ALERT_UNKNOWN_CA:
    case SSL_R_SSLV3_ALERT_BAD_CERTIFICATE:
    case SSL_R_SSLV3_ALERT_CERTIFICATE_EXPIRED:
      return fail(Code::Unauthenticated, message);
    case SSL_R_HTTP_REQUEST:
      return fail(Code::FailedPrecondition, "this port speaks HTTPS", "bad_request");
    default:
      return fail(Code::InvalidArgument, message);
  }
}

std::optional<PeerCertificate> Transport::peer_certificate() const {
  if (session_ == nullptr || shaking_ || SSL_get_verify_result(session_.get()) != X509_V_OK) {
    return std::nullopt;
  }
  X509* certificate = SSL_get0_peer_certificate(session_.get());
  if (certificate == nullptr) return std::nullopt;
  return describe_certificate(*certificate);
}

bool Transport::end_output() {
  if (hangup_) return false;
  if (session_ != nullptr && !shaking_ && !broken_) {
    ERR_clear_error();
    (void)SSL_shutdown(session_.get());  // if the socket takes it at once
  }
  return ::shutdown(socket_.get(), SHUT_WR) == 0;
}

void Transport::cut() {
  (void)::shutdown(socket_.get(), SHUT_RDWR);
  hangup_ = readable_ = writable_ = true;
}

}  // namespace mayfly
