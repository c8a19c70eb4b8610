// Internal: the bytes of one connection, over a plain socket or over TLS. It never blocks, and
// waits for nothing itself: its owner tells it what poll or epoll reported and asks what to wait
// for. For a plain socket every call is one system call and one predictable branch.
//
// Works edge-triggered: whether the socket may be readable or writable is remembered, and a call
// that cannot succeed is not made. A short read means that the socket is empty (epoll(7)).
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/fd.h"
#include "base/result.h"
#include "net/tls.h"

namespace mayfly {

class Transport {
 public:
  enum class Progress : std::uint8_t { Some, Blocked, End };
  struct Moved {
    Progress progress;
    std::size_t size = 0;
  };

  explicit Transport(Fd socket, TlsSession session = nullptr);
  ~Transport();
  Transport(const Transport&) = delete;  // the session points here
  Transport& operator=(const Transport&) = delete;

  int fd() const { return socket_.get(); }
  bool is_tls() const { return session_ != nullptr; }

  // What epoll reported. A hang-up is remembered: then reads go on until the end is seen.
  void on_ready(bool readable, bool writable, bool hangup) {
    readable_ = readable_ || readable;
    writable_ = writable_ || writable;
    hangup_ = hangup_ || hangup;
  }
  bool hangup() const { return hangup_; }
  // After Blocked: whether what blocked it may have passed; and for poll, what to wait for.
  bool may_go_on() const { return waits_for_output_ ? writable_ : readable_; }
  bool waits_for_output() const { return waits_for_output_; }

  // The TLS handshake, to be called until it is Some; a plain socket needs none. InvalidArgument:
  // what the other side speaks is not TLS as it is spoken here. Unauthenticated: its certificate,
  // or ours, is refused. Cancelled: it went away.
  Result<Progress> handshake();
  bool is_shaking() const { return shaking_; }
  // After a handshake that failed with FailedPrecondition, because the other side spoke plain HTTP:
  // goes on without TLS, to tell it so.
  void turn_plain() {
    session_.reset();
    shaking_ = broken_ = false;
  }
  // After End: why the other side ended TLS, in OpenSSL's words; empty if it did not say.
  std::string_view problem() const { return problem_; }
  // The other side's certificate, once the handshake is done and one was demanded.
  std::optional<PeerCertificate> peer_certificate() const;

  Moved receive(std::span<std::byte> into) {
    return session_ == nullptr ? receive_plain(into) : receive_tls(into);
  }
  // Whether receive() has something to say: bytes, or the end.
  bool has_input();
  // Of several parts, as many bytes as are taken at once. After Blocked the next call begins with
  // the same bytes, wherever they lie by then. `parts` is not empty and begins with a byte.
  Moved send(std::span<const iovec> parts) {
    return session_ == nullptr ? send_plain(parts) : send_tls(parts);
  }

  // Says that nothing more is sent, in TLS too. False: the connection is gone.
  bool end_output();
  // Reads and throws away what still comes, ciphertext too: for use after end_output().
  Moved drop(std::span<std::byte> into) { return receive_plain(into); }
  // Ends both directions at once.
  void cut();

 private:
  struct Bio;
  Moved receive_plain(std::span<std::byte> into);
  Moved send_plain(std::span<const iovec> parts);
  Moved receive_tls(std::span<std::byte> into);
  Moved send_tls(std::span<const iovec> parts);
  Moved outcome_of(int result, std::size_t size);
  void note_alert();
  std::unexpected<Error> handshake_error(int why);

  Fd socket_;
  TlsSession session_;
  bool readable_ = true;
  bool writable_ = true;
  bool hangup_ = false;
  bool waits_for_output_ = false;
  bool shaking_ = false;
  bool broken_ = false;  // TLS cannot go on, not even to say good-bye
  std::string_view problem_;
};

}  // namespace mayfly
