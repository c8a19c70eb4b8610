#include "identity/api_key.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/check.h"
#include "identity/base64url.h"

namespace mayfly {
namespace {

constexpr std::string_view kPrefix = "mayfly_";
constexpr std::size_t kIdDigits = 12;
constexpr std::size_t kSecretBytes = 32;
constexpr std::size_t kSecretDigits = 43;  // of 256 bits, without padding

bool is_base64url(char c) {
  return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' ||
         c == '_';
}

}  // namespace

ApiKey make_api_key(Rng& rng) {
  std::array<std::byte, kSecretBytes> secret{};
  rng.fill(secret);
  ApiKey key{.id = fmt::format("{:012x}", rng.next() >> (64 - 4 * kIdDigits)), .text = {}};
  key.text = fmt::format("{}{}_{}", kPrefix, key.id, encode_base64url(secret));
  return key;
}

std::optional<std::string_view> api_key_id(std::string_view text) {
  if (text.size() != kPrefix.size() + kIdDigits + 1 + kSecretDigits || !text.starts_with(kPrefix))
    return std::nullopt;
  const std::string_view id = text.substr(kPrefix.size(), kIdDigits);
  const std::string_view secret = text.substr(kPrefix.size() + kIdDigits + 1);
  if (id.find_first_not_of("0123456789abcdef") != std::string_view::npos ||
      text[kPrefix.size() + kIdDigits] != '_' || !std::ranges::all_of(secret, is_base64url)) {
    return std::nullopt;
  }
  return id;
}

Result<std::optional<NodeSecret>> NodeSecret::read(const Path& path) {
  auto file = open_file(path, O_RDONLY);
  if (!file && file.error().code == Code::NotFound) return std::nullopt;
  if (!file) return std::unexpected(std::move(file).error());
  struct stat status{};
  if (::fstat(file->get(), &status) != 0) return fail_errno(path.native());
  if ((status.st_mode & 077) != 0) {
    return fail(Code::FailedPrecondition,
                fmt::format("{} may be used by others than its owner (mode {:04o}): chmod 600 it; "
                            "whoever read it and identity.db can try keys against them",
                            path.native(), status.st_mode & 07777));
  }
  NodeSecret secret;
  auto bytes = read_all_fd(file->get(), secret.bytes_.size() + 1);
  if (!bytes) return std::unexpected(std::move(bytes).error().in(path.native()));
  if (bytes->size() != secret.bytes_.size()) {
    return fail(Code::DataLoss,
                fmt::format("{} must hold {} bytes; without them no key can be checked: put the "
                            "file back, or remove it and identity.db to begin without keys",
                            path.native(), secret.bytes_.size()));
  }
  std::memcpy(secret.bytes_.data(), bytes->data(), secret.bytes_.size());
  return secret;
}

// Written aside and linked: whoever finds the file finds it whole, and none is ever replaced.
Result<NodeSecret> NodeSecret::create(const Path& path, Rng& rng) {
  NodeSecret secret;
  rng.fill(secret.bytes_);
  Path aside = path;
  aside += ".new";
  ::unlink(aside.c_str());  // of a server that died here
  {
    const Fd file = TRY(open_file(aside, O_WRONLY | O_CREAT | O_EXCL, 0600));
    TRY(write_all(file.get(), {reinterpret_cast<const char*>(secret.bytes_.data()), kSecretBytes}));
    if (::fsync(file.get()) != 0) return fail_errno(fmt::format("fsync {}", aside.native()));
  }
  const int linked = ::link(aside.c_str(), path.c_str());
  const int error = errno;
  ::unlink(aside.c_str());
  if (linked != 0)
    return std::unexpected(errno_error(fmt::format("make {}", path.native()), error));
  TRY(sync_directory(path.parent_path().empty() ? Path(".") : path.parent_path()));
  return secret;
}

Digest NodeSecret::digest(std::string_view key_text) const {
  Digest digest;
  unsigned int size = 0;
  CHECK(HMAC(EVP_sha256(), bytes_.data(), static_cast<int>(bytes_.size()),
             reinterpret_cast<const unsigned char*>(key_text.data()), key_text.size(),
             reinterpret_cast<unsigned char*>(digest.bytes.data()), &size) != nullptr);
  CHECK(size == digest.bytes.size());
  return digest;
}

bool same_digest(const Digest& a, const Digest& b) {
  return CRYPTO_memcmp(a.bytes.data(), b.bytes.data(), a.bytes.size()) == 0;
}

}  // namespace mayfly
