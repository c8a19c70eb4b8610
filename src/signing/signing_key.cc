#include "signing/signing_key.h"

#include <openssl/bio.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>
#include <openssl/pem.h>

#include <utility>

#include "base/check.h"
#include "core/manifest.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr const char* kCurve = "P-256";
constexpr std::size_t kPoint = 65;  // uncompressed

template <auto kFree>
struct Freed {
  template <typename T>
  void operator()(T* thing) const {
    kFree(thing);
  }
};
using Bio = std::unique_ptr<BIO, Freed<BIO_free>>;
using KeyContext = std::unique_ptr<EVP_PKEY_CTX, Freed<EVP_PKEY_CTX_free>>;
using HashContext = std::unique_ptr<EVP_MD_CTX, Freed<EVP_MD_CTX_free>>;
using Number = std::unique_ptr<BIGNUM, Freed<BN_clear_free>>;
using Group = std::unique_ptr<EC_GROUP, Freed<EC_GROUP_free>>;
using Point = std::unique_ptr<EC_POINT, Freed<EC_POINT_free>>;
using Builder = std::unique_ptr<OSSL_PARAM_BLD, Freed<OSSL_PARAM_BLD_free>>;
using Params = std::unique_ptr<OSSL_PARAM, Freed<OSSL_PARAM_free>>;

const unsigned char* key_octets(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

std::string pem_of(EVP_PKEY* key) {
  const Bio out(BIO_new(BIO_s_mem()));
  CHECK(out && PEM_write_bio_PUBKEY(out.get(), key) == 1);
  char* text = nullptr;
  const long size = BIO_get_mem_data(out.get(), &text);
  return {text, static_cast<std::size_t>(size)};
}

bool is_p256(EVP_PKEY* key) {
  std::array<char, 64> name{};
  std::size_t size = 0;
  return EVP_PKEY_is_a(key, "EC") == 1 &&
         EVP_PKEY_get_group_name(key, name.data(), name.size(), &size) == 1 &&
         (std::string_view(name.data(), size) == "prime256v1" ||
          std::string_view(name.data(), size) == kCurve);
}

bool is_sound(EVP_PKEY* key) {
  const KeyContext check(EVP_PKEY_CTX_new_from_pkey(nullptr, key, nullptr));
  return check && EVP_PKEY_public_check(check.get()) == 1;
}

// The point that belongs to the number, uncompressed.
std::array<unsigned char, kPoint> point_of(const EC_GROUP* group, const BIGNUM* number) {
  std::array<unsigned char, kPoint> bytes{};
  const Point point(EC_POINT_new(group));
  CHECK(point && EC_POINT_mul(group, point.get(), number, nullptr, nullptr, nullptr) == 1);
  CHECK(EC_POINT_point2oct(group, point.get(), POINT_CONVERSION_UNCOMPRESSED, bytes.data(),
                           bytes.size(), nullptr) == bytes.size());
  return bytes;
}

}  // namespace

PublicKey::PublicKey(std::shared_ptr<evp_pkey_st> key)
    : key_(std::move(key)), pem_(pem_of(key_.get())), id_(sha256_hex(pem_)) {}

Result<PublicKey> PublicKey::parse(std::string_view pem) {
  const auto bad = [](std::string_view why) {
    ERR_clear_error();
    return refuse(reason::kInvalidSetting, std::string("public key: ").append(why));
  };
  if (pem.size() > kMaxText) return bad("it is too long");
  const Bio in(BIO_new_mem_buf(pem.data(), static_cast<int>(pem.size())));
  CHECK(in != nullptr);
  const std::shared_ptr<EVP_PKEY> key(PEM_read_bio_PUBKEY(in.get(), nullptr, nullptr, nullptr),
                                      &EVP_PKEY_free);
  if (!key) return bad("it is not PEM with a 'BEGIN PUBLIC KEY' block");
  if (!is_p256(key.get())) return bad("it is not an EC key of the curve P-256");
  if (!is_sound(key.get())) return bad("its point is not on the curve");
  return PublicKey(key);
}

bool PublicKey::verifies(std::string_view text, std::string_view signature) const {
  const HashContext context(EVP_MD_CTX_new());
  const bool good =
      context &&
      EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key_.get()) == 1 &&
      EVP_DigestVerify(context.get(), key_octets(signature), signature.size(), key_octets(text),
                       text.size()) == 1;
  ERR_clear_error();
  return good;
}

std::optional<PrivateKey> PrivateKey::create(std::span<const std::byte, kBytes> bytes) {
  const Group group(EC_GROUP_new_by_curve_name(NID_X9_62_prime256v1));
  const Number number(BN_secure_new());
  CHECK(group && number);
  CHECK(BN_bin2bn(reinterpret_cast<const unsigned char*>(bytes.data()), kBytes, number.get()) !=
        nullptr);
  if (BN_is_zero(number.get()) || BN_cmp(number.get(), EC_GROUP_get0_order(group.get())) >= 0)
    return std::nullopt;
  const auto point = point_of(group.get(), number.get());
  const Builder builder(OSSL_PARAM_BLD_new());
  CHECK(builder != nullptr);
  CHECK(OSSL_PARAM_BLD_push_utf8_string(builder.get(), OSSL_PKEY_PARAM_GROUP_NAME, kCurve, 0) == 1);
  CHECK(OSSL_PARAM_BLD_push_octet_string(builder.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(),
                                         point.size()) == 1);
  CHECK(OSSL_PARAM_BLD_push_BN(builder.get(), OSSL_PKEY_PARAM_PRIV_KEY, number.get()) == 1);
  const Params params(OSSL_PARAM_BLD_to_param(builder.get()));
  const KeyContext making(EVP_PKEY_CTX_new_from_name(nullptr, "EC", nullptr));
  EVP_PKEY* made = nullptr;
  CHECK(params && making && EVP_PKEY_fromdata_init(making.get()) == 1);
  CHECK(EVP_PKEY_fromdata(making.get(), &made, EVP_PKEY_KEYPAIR, params.get()) == 1);
  return PrivateKey(std::shared_ptr<EVP_PKEY>(made, &EVP_PKEY_free));
}

// Memory aside nothing of this can fail.
std::string PrivateKey::sign(std::string_view text) const {
  const HashContext context(EVP_MD_CTX_new());
  CHECK(context &&
        EVP_DigestSignInit(context.get(), nullptr, EVP_sha256(), nullptr, key_.get()) == 1);
  std::size_t size = 0;
  CHECK(EVP_DigestSign(context.get(), nullptr, &size, key_octets(text), text.size()) == 1);
  std::string signature(size, '\0');
  CHECK(EVP_DigestSign(context.get(), reinterpret_cast<unsigned char*>(signature.data()), &size,
                       key_octets(text), text.size()) == 1);
  signature.resize(size);
  return signature;
}

std::array<std::byte, PrivateKey::kBytes> draw_private_key(Rng& rng) {
  std::array<std::byte, PrivateKey::kBytes> bytes{};
  do {
    rng.fill(bytes);
  } while (!PrivateKey::create(bytes));
  return bytes;
}

}  // namespace mayfly
