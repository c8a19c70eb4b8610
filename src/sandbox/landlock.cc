#include "sandbox/landlock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/landlock.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>

#include "base/fd.h"

namespace mayfly {
namespace {

// Debian 12's header knows version 2; the kernel is asked at run time.
// (Documentation/userspace-api/ landlock.rst; the attribute's fields are append-only and its size
// tells the kernel which are meant.)
struct RulesetAttributes {
  std::uint64_t files;
  std::uint64_t network;  // since version 4
  std::uint64_t scoped;   // since version 6
};

constexpr std::uint64_t kExecute = 1ULL << 0;
constexpr std::uint64_t kWriteFile = 1ULL << 1;
constexpr std::uint64_t kReadFile = 1ULL << 2;
constexpr std::uint64_t kReadFolder = 1ULL << 3;
constexpr std::uint64_t kRemoveFolder = 1ULL << 4;
constexpr std::uint64_t kRemoveFile = 1ULL << 5;
constexpr std::uint64_t kMakeFolder = 1ULL << 7;
constexpr std::uint64_t kMakeFile = 1ULL << 8;
constexpr std::uint64_t kRefer = 1ULL << 13;
constexpr std::uint64_t kTruncate = 1ULL << 14;

constexpr std::uint64_t kBindTcp = 1ULL << 0;
constexpr std::uint64_t kConnectTcp = 1ULL << 1;
constexpr std::uint64_t kScopeAbstractSocket = 1ULL << 0;
constexpr std::uint64_t kScopeSignal = 1ULL << 1;

std::uint64_t handled_files(int version) {
  std::uint64_t bits = (1ULL << 13) - 1;  // version 1
  if (version >= 2) bits |= kRefer;
  if (version >= 3) bits |= kTruncate;
  if (version >= 5) bits |= 1ULL << 15;  // ioctl on devices
  return bits;
}

std::uint64_t granted(Access access) {
  constexpr std::uint64_t kRead = kReadFile | kReadFolder;
  if (access == Access::Programs) return kRead | kExecute;
  if (access != Access::ReadWrite) return kRead;
  return kRead | kWriteFile | kRemoveFolder | kRemoveFile | kMakeFolder | kMakeFile | kRefer |
         kTruncate;
}

Result<Fd> make_ruleset(int version, Tcp tcp) {
  const RulesetAttributes attributes = {
      .files = handled_files(version),
      .network = version >= 4 && tcp == Tcp::None ? kBindTcp | kConnectTcp : 0,
      .scoped = version >= 6 ? kScopeAbstractSocket | kScopeSignal : 0,
  };
  const std::size_t size = version >= 6 ? 24 : version >= 4 ? 16 : 8;
  Fd ruleset(static_cast<int>(::syscall(SYS_landlock_create_ruleset, &attributes, size, 0)));
  if (!ruleset) return fail_errno("create the Landlock ruleset");
  return ruleset;
}

Status allow(const Fd& ruleset, const LandlockRule& rule, int version) {
  const Fd folder(::open(rule.folder.c_str(), O_PATH | O_DIRECTORY | O_CLOEXEC));
  if (!folder) return fail_errno(fmt::format("open {} for its Landlock rule", rule.folder));
  landlock_path_beneath_attr beneath{};
  beneath.allowed_access = granted(rule.access) & handled_files(version);
  beneath.parent_fd = folder.get();
  const auto type = LANDLOCK_RULE_PATH_BENEATH;
  if (::syscall(SYS_landlock_add_rule, ruleset.get(), type, &beneath, 0) != 0) {
    return fail_errno(fmt::format("allow {} in the Landlock ruleset", rule.folder));
  }
  return {};
}

}  // namespace

int landlock_version() {
  const long version =
      ::syscall(SYS_landlock_create_ruleset, nullptr, 0, LANDLOCK_CREATE_RULESET_VERSION);
  return version < 0 ? 0 : static_cast<int>(version);
}

Status restrict_files(std::span<const LandlockRule> rules, Tcp tcp) {
  const int version = landlock_version();
  if (version == 0) return {};
  const Fd ruleset = TRY(make_ruleset(version, tcp));
  for (const LandlockRule& rule : rules) TRY(allow(ruleset, rule, version));
  if (::syscall(SYS_landlock_restrict_self, ruleset.get(), 0) != 0) {
    return fail_errno("enter the Landlock ruleset");
  }
  return {};
}

}  // namespace mayfly
