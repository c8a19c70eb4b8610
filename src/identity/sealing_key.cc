#include "identity/sealing_key.h"

#include <openssl/crypto.h>
#include <openssl/evp.h>

#include <array>
#include <cstring>
#include <memory>

#include "base/check.h"

namespace mayfly {
namespace {

constexpr std::size_t kNonce = 12;
constexpr std::size_t kTag = 16;

struct FreeCipher {
  void operator()(EVP_CIPHER_CTX* context) const { EVP_CIPHER_CTX_free(context); }
};
using Cipher = std::unique_ptr<EVP_CIPHER_CTX, FreeCipher>;

const unsigned char* octets(const void* bytes) { return static_cast<const unsigned char*>(bytes); }
unsigned char* octets(void* bytes) { return static_cast<unsigned char*>(bytes); }
int length(std::size_t size) { return static_cast<int>(size); }

}  // namespace

SealingKey::~SealingKey() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }

// Memory aside nothing of this can fail.
std::vector<std::byte> SealingKey::seal(std::string_view value, std::string_view bound_to,
                                        Rng& rng) const {
  CHECK(value.size() <= kMaxSecretBytes);
  std::vector<std::byte> sealed(kNonce + value.size() + kTag);
  rng.fill(std::span(sealed).first(kNonce));
  const Cipher cipher(EVP_CIPHER_CTX_new());
  CHECK(cipher != nullptr);
  unsigned char* text = octets(sealed.data()) + kNonce;
  int done = 0;
  CHECK(EVP_EncryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, octets(bytes_.data()),
                           octets(sealed.data())) == 1);
  CHECK(EVP_EncryptUpdate(cipher.get(), nullptr, &done, octets(bound_to.data()),
                          length(bound_to.size())) == 1);
  CHECK(EVP_EncryptUpdate(cipher.get(), text, &done, octets(value.data()), length(value.size())) ==
        1);
  CHECK(done == length(value.size()));
  CHECK(EVP_EncryptFinal_ex(cipher.get(), text + done, &done) == 1);
  CHECK(EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_GET_TAG, kTag, text + value.size()) == 1);
  return sealed;
}

Result<SecretBytes> SealingKey::open(std::span<const std::byte> sealed,
                                     std::string_view bound_to) const {
  const auto cannot = [] { return fail(Code::DataLoss, "it does not open with this key"); };
  if (sealed.size() < kNonce + kTag || sealed.size() > kNonce + kMaxSecretBytes + kTag)
    return cannot();
  const std::size_t size = sealed.size() - kNonce - kTag;
  std::array<unsigned char, kTag> tag{};
  std::memcpy(tag.data(), sealed.data() + kNonce + size, kTag);
  std::vector<char> value(size + 1);  // never an empty buffer
  const Cipher cipher(EVP_CIPHER_CTX_new());
  CHECK(cipher != nullptr);
  int done = 0;
  const bool genuine =
      EVP_DecryptInit_ex(cipher.get(), EVP_aes_256_gcm(), nullptr, octets(bytes_.data()),
                         octets(sealed.data())) == 1 &&
      EVP_DecryptUpdate(cipher.get(), nullptr, &done, octets(bound_to.data()),
                        length(bound_to.size())) == 1 &&
      EVP_DecryptUpdate(cipher.get(), octets(value.data()), &done, octets(sealed.data()) + kNonce,
                        length(size)) == 1 &&
      EVP_CIPHER_CTX_ctrl(cipher.get(), EVP_CTRL_GCM_SET_TAG, kTag, tag.data()) == 1 &&
      EVP_DecryptFinal_ex(cipher.get(), octets(value.data()) + size, &done) == 1;
  SecretBytes opened(std::string_view(value.data(), size));
  OPENSSL_cleanse(value.data(), value.size());
  if (!genuine) return cannot();
  return opened;
}

}  // namespace mayfly
