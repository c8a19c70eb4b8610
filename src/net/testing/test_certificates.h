// Certificates made while a test runs: an authority of its own and what it issues, as PEM files.
#pragma once

#include <memory>
#include <string>

#include "base/file.h"
#include "net/tls.h"

struct evp_pkey_st;
struct x509_st;

namespace mayfly {

struct CertificateWish {
  std::string common_name = "localhost";
  std::string names = "DNS:localhost,IP:127.0.0.1";
  std::chrono::seconds begins = std::chrono::hours(-48);  // from now
  std::chrono::seconds ends = std::chrono::hours(48);
};

class TestAuthority {
 public:
  // Writes its own certificate to `folder`/`name`.pem. The folder outlives it.
  TestAuthority(const Path& folder, const std::string& name);
  ~TestAuthority();
  TestAuthority(const TestAuthority&) = delete;
  TestAuthority& operator=(const TestAuthority&) = delete;

  const Path& file() const { return file_; }
  // A certificate of this authority and its key, in `stem`.pem and `stem`.key; what lies there is
  // replaced. `client_ca` of what is returned is empty.
  TlsServerFiles issue(const std::string& stem, const CertificateWish& wish = {}) const;

 private:
  Path folder_;
  Path file_;
  std::unique_ptr<evp_pkey_st, void (*)(evp_pkey_st*)> key_;
  std::unique_ptr<x509_st, void (*)(x509_st*)> certificate_;
};

}  // namespace mayfly
