#include "net/testing/test_certificates.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/x509v3.h>

#include <cstdio>

#include "base/check.h"

namespace mayfly {
namespace {

using Key = std::unique_ptr<EVP_PKEY, void (*)(EVP_PKEY*)>;
using Certificate = std::unique_ptr<X509, void (*)(X509*)>;

Key make_key() {
  Key key(EVP_EC_gen("P-256"), &EVP_PKEY_free);
  CHECK(key != nullptr);
  return key;
}

void add_extension(X509* certificate, X509* issuer, int nid, const std::string& value) {
  X509V3_CTX context;
  X509V3_set_ctx(&context, issuer, certificate, nullptr, nullptr, 0);
  X509_EXTENSION* extension = X509V3_EXT_conf_nid(nullptr, &context, nid, value.c_str());
  CHECK(extension != nullptr && X509_add_ext(certificate, extension, -1) == 1);
  X509_EXTENSION_free(extension);
}

// Unsigned, and without an issuer.
Certificate draft(EVP_PKEY* key, const CertificateWish& wish) {
  Certificate certificate(X509_new(), &X509_free);
  X509_set_version(certificate.get(), 2);
  std::uint32_t serial = 0;
  CHECK(RAND_bytes(reinterpret_cast<unsigned char*>(&serial), sizeof serial) == 1);
  ASN1_INTEGER_set_uint64(X509_get_serialNumber(certificate.get()), serial);
  X509_gmtime_adj(X509_getm_notBefore(certificate.get()), wish.begins.count());
  X509_gmtime_adj(X509_getm_notAfter(certificate.get()), wish.ends.count());
  X509_set_pubkey(certificate.get(), key);
  X509_NAME_add_entry_by_txt(X509_get_subject_name(certificate.get()), "CN", MBSTRING_UTF8,
                             reinterpret_cast<const unsigned char*>(wish.common_name.c_str()), -1,
                             -1, 0);
  return certificate;
}

void write_pem(const Path& file, const X509* certificate) {
  std::FILE* out = std::fopen(file.c_str(), "w");
  CHECK(out != nullptr && PEM_write_X509(out, certificate) == 1);
  CHECK(std::fclose(out) == 0);
}

void write_pem(const Path& file, const EVP_PKEY* key) {
  std::FILE* out = std::fopen(file.c_str(), "w");
  CHECK(out != nullptr &&
        PEM_write_PrivateKey(out, key, nullptr, nullptr, 0, nullptr, nullptr) == 1);
  CHECK(std::fclose(out) == 0);
}

}  // namespace

TestAuthority::TestAuthority(const Path& folder, const std::string& name)
    : folder_(folder),
      file_(folder / (name + ".pem")),
      key_(make_key()),
      certificate_(draft(key_.get(), {.common_name = name})) {
  X509* own = certificate_.get();
  X509_set_issuer_name(own, X509_get_subject_name(own));
  add_extension(own, own, NID_basic_constraints, "critical,CA:TRUE");
  add_extension(own, own, NID_subject_key_identifier, "hash");
  CHECK(X509_sign(own, key_.get(), EVP_sha256()) > 0);
  write_pem(file_, own);
}

TestAuthority::~TestAuthority() = default;

TlsServerFiles TestAuthority::issue(const std::string& stem, const CertificateWish& wish) const {
  const Key key = make_key();
  const Certificate certificate = draft(key.get(), wish);
  X509_set_issuer_name(certificate.get(), X509_get_subject_name(certificate_.get()));
  add_extension(certificate.get(), certificate_.get(), NID_basic_constraints, "CA:FALSE");
  add_extension(certificate.get(), certificate_.get(), NID_subject_alt_name, wish.names);
  CHECK(X509_sign(certificate.get(), key_.get(), EVP_sha256()) > 0);
  TlsServerFiles files{
      .certificate = folder_ / (stem + ".pem"), .key = folder_ / (stem + ".key"), .client_ca = {}};
  write_pem(files.certificate, certificate.get());
  write_pem(files.key, key.get());
  return files;
}

}  // namespace mayfly
