#include "sandbox/secret_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <openssl/crypto.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>

#include "base/file.h"

namespace mayfly {
namespace {

constexpr std::size_t kPage = 4096;
constexpr std::size_t kMostPacked =
    kMostSecretsOfVersion * (kMaxSecretName + kMaxSecretBytes + sizeof(std::uint64_t));
constexpr unsigned long kSecretFlags = MS_NOSUID | MS_NODEV | MS_NOEXEC;

class Wiped {
 public:
  explicit Wiped(std::size_t size) : bytes_(size) {}
  ~Wiped() { OPENSSL_cleanse(bytes_.data(), bytes_.size()); }
  Wiped(const Wiped&) = delete;
  Wiped& operator=(const Wiped&) = delete;
  std::span<char> bytes() { return bytes_; }

 private:
  std::vector<char> bytes_;
};

std::unexpected<Error> malformed() {
  return fail(Code::DataLoss, "the jail's secrets arrived malformed");
}

template <typename Length>
Status write_part(int file, std::string_view text) {
  const auto length = static_cast<Length>(text.size());
  TRY(write_all(file, {reinterpret_cast<const char*>(&length), sizeof length}));
  return write_all(file, text);
}

template <typename Length>
Result<std::string_view> take_part(std::span<char>& rest) {
  Length length = 0;
  if (rest.size() < sizeof length) return malformed();
  std::memcpy(&length, rest.data(), sizeof length);
  rest = rest.subspan(sizeof length);
  if (rest.size() < length) return malformed();
  const std::string_view part(rest.data(), length);
  rest = rest.subspan(length);
  return part;
}

// All there is, from the beginning: the file's offset is shared with whoever wrote it.
Status read_whole(int file, std::span<char> into) {
  for (std::size_t done = 0; done < into.size();) {
    const ssize_t got =
        ::pread(file, into.data() + done, into.size() - done, static_cast<off_t>(done));
    if (got < 0) return fail_errno("read the jail's secrets");
    if (got == 0) return malformed();
    done += static_cast<std::size_t>(got);
  }
  return {};
}

Status write_secret(const std::string& folder, const Secret& secret) {
  const std::string path = fmt::format("{}/{}", folder, secret.name);
  const Fd file = TRY(open_file(path, O_CREAT | O_EXCL | O_WRONLY | O_NOFOLLOW, 0400));
  return write_all(file.get(), secret.value.view());
}

}  // namespace

Result<Fd> pack_secrets(const std::vector<Secret>& secrets) {
  if (secrets.size() > kMostSecretsOfVersion)
    return fail(Code::InvalidArgument, "more secrets than a version may have");
  Fd file(::memfd_create("secrets", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!file) return fail_errno("make a file for secrets");
  for (const Secret& secret : secrets) {
    TRY(write_part<std::uint16_t>(file.get(), secret.name));
    TRY(write_part<std::uint32_t>(file.get(), secret.value.view()));
  }
  constexpr int kSeals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
  if (::fcntl(file.get(), F_ADD_SEALS, kSeals) != 0) return fail_errno("seal the file of secrets");
  return file;
}

Result<std::vector<Secret>> unpack_secrets(int packed) {
  struct stat status{};
  if (::fstat(packed, &status) != 0) return fail_errno("look at the jail's secrets");
  const auto size = static_cast<std::size_t>(status.st_size);
  if (size > kMostPacked) return malformed();
  Wiped content(size);
  TRY(read_whole(packed, content.bytes()));
  std::vector<Secret> secrets;
  for (std::span<char> rest = content.bytes(); !rest.empty();) {
    const std::string_view name = TRY(take_part<std::uint16_t>(rest));
    const std::string_view value = TRY(take_part<std::uint32_t>(rest));
    TRY(check_secret_name(name));
    secrets.push_back({.name = std::string(name), .value = SecretBytes(value)});
  }
  return secrets;
}

Status mount_secrets(int packed, const std::string& folder) {
  const std::vector<Secret> secrets = TRY(unpack_secrets(packed));
  std::size_t bytes = kPage;
  for (const Secret& secret : secrets) bytes += secret.value.view().size() + kPage;
  const std::string options =
      fmt::format("mode=0500,size={},nr_inodes={}", bytes, secrets.size() + 8);
  if (::mount("mayfly", folder.c_str(), "tmpfs", kSecretFlags, options.c_str()) != 0)
    return fail_errno(fmt::format("mount /{}", folder));
  for (const Secret& secret : secrets) TRY(write_secret(folder, secret));
  if (::mount(nullptr, folder.c_str(), nullptr, MS_REMOUNT | MS_RDONLY | kSecretFlags, nullptr) !=
      0) {
    return fail_errno(fmt::format("make /{} read-only", folder));
  }
  return {};
}

}  // namespace mayfly
