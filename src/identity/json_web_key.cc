#include "identity/json_web_key.h"

#include <fmt/format.h>
#include <openssl/bn.h>
#include <openssl/core_names.h>
#include <openssl/ec.h>
#include <openssl/ecdsa.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/param_build.h>

#include <algorithm>
#include <tuple>
#include <utility>

#include "core/json_reader.h"
#include "core/printable.h"
#include "core/reason.h"
#include "identity/base64url.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxKeys = 100;
constexpr std::size_t kMaxKeyId = 256;
constexpr int kLeastRsaBits = 2048;
constexpr int kMostRsaBits = 4096;       // beyond it a check takes longer than the loop may
constexpr std::size_t kCoordinate = 32;  // bytes of a number of P-256

using Number = std::unique_ptr<BIGNUM, decltype(&BN_free)>;
using Key = std::shared_ptr<EVP_PKEY>;

const unsigned char* bytes_of(std::string_view text) {
  return reinterpret_cast<const unsigned char*>(text.data());
}

Number number_of(std::string_view bytes) {
  return {BN_bin2bn(bytes_of(bytes), static_cast<int>(bytes.size()), nullptr), &BN_free};
}

std::string text_in(const Json& json, std::string_view member) {
  const auto found = json.find(member);
  return found != json.end() && found->is_string() ? found->get<std::string>() : std::string();
}

Result<std::string> bytes_in(const Json& json, std::string_view member) {
  auto bytes = decode_base64url(text_in(json, member));
  if (!bytes || bytes->empty())
    return fail(Code::InvalidArgument, fmt::format("'{}' is missing or not base64url", member));
  return *std::move(bytes);
}

Result<Key> make_key(const char* type, OSSL_PARAM_BLD* parts) {
  const std::unique_ptr<OSSL_PARAM, decltype(&OSSL_PARAM_free)> params(
      OSSL_PARAM_BLD_to_param(parts), &OSSL_PARAM_free);
  const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> making(
      EVP_PKEY_CTX_new_from_name(nullptr, type, nullptr), &EVP_PKEY_CTX_free);
  EVP_PKEY* made = nullptr;
  const bool is_key =
      params && making && EVP_PKEY_fromdata_init(making.get()) == 1 &&
      EVP_PKEY_fromdata(making.get(), &made, EVP_PKEY_PUBLIC_KEY, params.get()) == 1;
  Key key(made, &EVP_PKEY_free);
  const std::unique_ptr<EVP_PKEY_CTX, decltype(&EVP_PKEY_CTX_free)> checking(
      is_key ? EVP_PKEY_CTX_new_from_pkey(nullptr, made, nullptr) : nullptr, &EVP_PKEY_CTX_free);
  const bool sound = checking && EVP_PKEY_public_check(checking.get()) == 1;
  ERR_clear_error();
  if (!sound) return fail(Code::InvalidArgument, "its numbers are no public key");
  return key;
}

using Parts = std::unique_ptr<OSSL_PARAM_BLD, decltype(&OSSL_PARAM_BLD_free)>;

Result<Key> rsa_key(const Json& json) {
  const std::string modulus = TRY(bytes_in(json, "n"));
  const std::string exponent = TRY(bytes_in(json, "e"));
  const Number n = number_of(modulus);
  const Number e = number_of(exponent);
  const int bits = BN_num_bits(n.get());
  if (bits < kLeastRsaBits || bits > kMostRsaBits) {
    return fail(Code::InvalidArgument, fmt::format("an RSA key has {} to {} bits here, not {}",
                                                   kLeastRsaBits, kMostRsaBits, bits));
  }
  // Larger exponents only make checks slow.
  if (BN_num_bits(e.get()) > 32 || BN_num_bits(e.get()) < 2 || BN_is_odd(e.get()) != 1)
    return fail(Code::InvalidArgument, "its exponent is none that is used, as 65537");
  const Parts parts(OSSL_PARAM_BLD_new(), &OSSL_PARAM_BLD_free);
  if (OSSL_PARAM_BLD_push_BN(parts.get(), OSSL_PKEY_PARAM_RSA_N, n.get()) != 1 ||
      OSSL_PARAM_BLD_push_BN(parts.get(), OSSL_PKEY_PARAM_RSA_E, e.get()) != 1) {
    return fail(Code::Internal, "OpenSSL took no RSA key");
  }
  return make_key("RSA", parts.get());
}

Result<Key> p256_key(const Json& json) {
  const std::string x = TRY(bytes_in(json, "x"));
  const std::string y = TRY(bytes_in(json, "y"));
  if (x.size() != kCoordinate || y.size() != kCoordinate)
    return fail(Code::InvalidArgument, "a coordinate of P-256 has 32 bytes");
  const std::string point = "\x04" + x + y;
  const Parts parts(OSSL_PARAM_BLD_new(), &OSSL_PARAM_BLD_free);
  if (OSSL_PARAM_BLD_push_utf8_string(parts.get(), OSSL_PKEY_PARAM_GROUP_NAME, "P-256", 0) != 1 ||
      OSSL_PARAM_BLD_push_octet_string(parts.get(), OSSL_PKEY_PARAM_PUB_KEY, point.data(),
                                       point.size()) != 1) {
    return fail(Code::Internal, "OpenSSL took no key of P-256");
  }
  return make_key("EC", parts.get());
}

// What it is for by its own words; empty: nothing that is done here.
std::string_view algorithm_of(const Json& json) {
  std::string_view algorithm;
  if (text_in(json, "kty") == "RSA") algorithm = "RS256";
  if (text_in(json, "kty") == "EC" && text_in(json, "crv") == "P-256") algorithm = "ES256";
  if (json.contains("alg") && text_in(json, "alg") != algorithm) return {};
  if (json.contains("use") && text_in(json, "use") != "sig") return {};
  const auto operations = json.find("key_ops");
  const bool verifies = operations == json.end() ||
                        (operations->is_array() &&
                         std::ranges::find(*operations, Json("verify")) != operations->end());
  return verifies ? algorithm : std::string_view();
}

Result<VerificationKey> read_key(const Json& json, std::string_view algorithm) {
  const std::string id = text_in(json, "kid");
  if (id.empty() || id.size() > kMaxKeyId)
    return fail(Code::InvalidArgument, "it has no 'kid', by which tokens could name it");
  return VerificationKey(algorithm, TRY(algorithm == "RS256" ? rsa_key(json) : p256_key(json)));
}

// r and s as RFC 7518 §3.4 writes them, as OpenSSL reads them. Empty: not of this form.
std::string der_of(std::string_view signature) {
  if (signature.size() != 2 * kCoordinate) return {};
  const std::unique_ptr<ECDSA_SIG, decltype(&ECDSA_SIG_free)> pair(ECDSA_SIG_new(),
                                                                   &ECDSA_SIG_free);
  Number r = number_of(signature.substr(0, kCoordinate));
  Number s = number_of(signature.substr(kCoordinate));
  if (!pair || ECDSA_SIG_set0(pair.get(), r.get(), s.get()) != 1) return {};
  std::ignore = r.release();
  std::ignore = s.release();
  unsigned char* bytes = nullptr;
  const int size = i2d_ECDSA_SIG(pair.get(), &bytes);
  if (size <= 0) return {};
  std::string der(reinterpret_cast<const char*>(bytes), static_cast<std::size_t>(size));
  OPENSSL_free(bytes);
  return der;
}

}  // namespace

bool VerificationKey::verifies(std::string_view text, std::string_view signature) const {
  const std::string der = algorithm_ == "ES256" ? der_of(signature) : std::string(signature);
  const std::unique_ptr<EVP_MD_CTX, decltype(&EVP_MD_CTX_free)> context(EVP_MD_CTX_new(),
                                                                        &EVP_MD_CTX_free);
  const bool good =
      context && !der.empty() &&
      EVP_DigestVerifyInit(context.get(), nullptr, EVP_sha256(), nullptr, key_.get()) == 1 &&
      EVP_DigestVerify(context.get(), bytes_of(der), der.size(), bytes_of(text), text.size()) == 1;
  ERR_clear_error();
  return good;
}

Result<KeySet> KeySet::parse(std::string_view text) {
  const auto bad = [](std::string_view why) {
    return refuse(reason::kInvalidSetting, fmt::format("no set of JSON Web Keys: {}", why));
  };
  if (text.size() > kMaxText) return bad(fmt::format("longer than {} bytes", kMaxText));
  const Json json = TRY(parse_json(text, "keys"));
  const auto list = json.is_object() ? json.find("keys") : json.end();
  if (!json.is_object() || list == json.end() || !list->is_array())
    return bad("it has no list 'keys'");
  if (list->size() > kMaxKeys) return bad(fmt::format("more than {} keys", kMaxKeys));
  KeySet set;
  for (const Json& one : *list) {
    const std::string_view algorithm = one.is_object() ? algorithm_of(one) : std::string_view();
    if (algorithm.empty()) continue;
    const std::string id = text_in(one, "kid");
    auto key = read_key(one, algorithm);
    if (key && set.keys_.contains(id)) key = fail(Code::InvalidArgument, "its 'kid' stands twice");
    if (key) {
      set.keys_.emplace(id, *std::move(key));
    } else {
      set.left_out_.push_back(fmt::format("key '{}': {}", printable(id, 64), key.error().message));
    }
  }
  return set;
}

const VerificationKey* KeySet::find(std::string_view id) const {
  const auto found = keys_.find(id);
  return found == keys_.end() ? nullptr : &found->second;
}

}  // namespace mayfly
