#include "identity/testing/test_issuer.h"

#include <fmt/format.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ecdsa.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>

#include <array>
#include <span>

#include "base/check.h"
#include "identity/base64url.h"

namespace mayfly {
namespace {

const unsigned char* octets(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

std::string big_endian(const BIGNUM* number, int size) {
  std::string bytes(static_cast<std::size_t>(size), '\0');
  CHECK(BN_bn2binpad(number, reinterpret_cast<unsigned char*>(bytes.data()), size) == size);
  return bytes;
}

std::string number_of_key(const EVP_PKEY* key, const char* name, int size = 0) {
  BIGNUM* number = nullptr;
  CHECK(EVP_PKEY_get_bn_param(key, name, &number) == 1);
  const std::unique_ptr<BIGNUM, decltype(&BN_free)> owner(number, &BN_free);
  return big_endian(number, size > 0 ? size : BN_num_bytes(number));
}

// From the sequence of two numbers that OpenSSL writes to the 64 bytes of RFC 7518.
std::string raw_of(const std::string& der) {
  const unsigned char* begin = octets(der);
  const std::unique_ptr<ECDSA_SIG, decltype(&ECDSA_SIG_free)> pair(
      d2i_ECDSA_SIG(nullptr, &begin, static_cast<long>(der.size())), &ECDSA_SIG_free);
  CHECK(pair);
  return big_endian(ECDSA_SIG_get0_r(pair.get()), 32) +
         big_endian(ECDSA_SIG_get0_s(pair.get()), 32);
}

}  // namespace

std::string base64url_of(std::string_view text) {
  return encode_base64url(std::as_bytes(std::span(text)));
}

std::string token_text(std::string_view header, std::string_view claims) {
  return base64url_of(header) + "." + base64url_of(claims);
}

TestIssuer::TestIssuer(std::string algorithm, std::string key_id, unsigned rsa_bits)
    : algorithm_(std::move(algorithm)),
      key_id_(std::move(key_id)),
      key_(algorithm_ == "ES256" ? EVP_EC_gen("P-256") : EVP_RSA_gen(rsa_bits), &EVP_PKEY_free) {
  CHECK(key_ != nullptr);
}

std::string TestIssuer::jwk(std::string_view more) const {
  std::string numbers;
  if (algorithm_ == "ES256") {
    numbers = fmt::format(R"("kty":"EC","crv":"P-256","x":"{}","y":"{}")",
                          base64url_of(number_of_key(key_.get(), OSSL_PKEY_PARAM_EC_PUB_X, 32)),
                          base64url_of(number_of_key(key_.get(), OSSL_PKEY_PARAM_EC_PUB_Y, 32)));
  } else {
    numbers = fmt::format(R"("kty":"RSA","n":"{}","e":"{}")",
                          base64url_of(number_of_key(key_.get(), OSSL_PKEY_PARAM_RSA_N)),
                          base64url_of(number_of_key(key_.get(), OSSL_PKEY_PARAM_RSA_E)));
  }
  return fmt::format(R"({{{},"kid":"{}"{}}})", numbers, key_id_, more);
}

std::string TestIssuer::key_set() const { return fmt::format(R"({{"keys":[{}]}})", jwk()); }

std::string TestIssuer::header() const {
  return fmt::format(R"({{"alg":"{}","kid":"{}","typ":"JWT"}})", algorithm_, key_id_);
}

std::string TestIssuer::signature_of(const std::string& text) const {
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        &EVP_MD_CTX_free);
  std::size_t size = 0;
  CHECK(EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key_.get()) == 1);
  CHECK(EVP_DigestSign(context.get(), nullptr, &size, octets(text), text.size()) == 1);
  std::string signature(size, '\0');
  CHECK(EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size,
                       octets(text), text.size()) == 1);
  signature.resize(size);
  return algorithm_ == "ES256" ? raw_of(signature) : signature;
}

std::string TestIssuer::sign(std::string_view header, std::string_view claims) const {
  const std::string text = token_text(header, claims);
  return text + "." + base64url_of(signature_of(text));
}

std::string TestIssuer::confused_token(std::string_view claims) const {
  const std::unique_ptr<BIO, decltype(&BIO_free)> out(BIO_new(BIO_s_mem()), &BIO_free);
  CHECK(PEM_write_bio_PUBKEY(out.get(), key_.get()) == 1);
  char* pem = nullptr;
  const long pem_size = BIO_get_mem_data(out.get(), &pem);
  const std::string text =
      token_text(fmt::format(R"({{"alg":"HS256","kid":"{}"}})", key_id_), claims);
  std::array<unsigned char, 32> mac{};
  unsigned size = 0;
  CHECK(HMAC(EVP_sha256(), pem, static_cast<int>(pem_size), octets(text), text.size(), mac.data(),
             &size) != nullptr);
  return text + "." + base64url_of({reinterpret_cast<const char*>(mac.data()), size});
}

}  // namespace mayfly
