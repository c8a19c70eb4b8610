#include "sandbox/caps.h"

#include <linux/capability.h>
#include <linux/securebits.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <array>
#include <cerrno>

namespace mayfly {
namespace {

constexpr int kHighestPossible = 63;  // two 32-bit words in _LINUX_CAPABILITY_VERSION_3

using CapabilityWords = std::array<__user_cap_data_struct, 2>;

Result<CapabilityWords> current() {
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  CapabilityWords words{};
  if (::syscall(SYS_capget, &header, words.data()) != 0) return fail_errno("capget");
  return words;
}

bool any(const CapabilityWords& words) {
  return (words[0].permitted | words[1].permitted | words[0].inheritable | words[1].inheritable) !=
         0;
}

Status drop_bounding_set() {
  for (int capability = 0; capability <= kHighestPossible; ++capability) {
    if (::prctl(PR_CAPBSET_DROP, capability, 0, 0, 0) == 0) continue;
    if (errno == EINVAL) return {};  // above this kernel's last capability
    return fail_errno("drop a capability from the bounding set");
  }
  return {};
}

Status lock_secure_bits() {
  constexpr unsigned long kBits = SECBIT_NOROOT | SECBIT_NOROOT_LOCKED | SECBIT_NO_SETUID_FIXUP |
                                  SECBIT_NO_SETUID_FIXUP_LOCKED | SECBIT_KEEP_CAPS_LOCKED |
                                  SECBIT_NO_CAP_AMBIENT_RAISE | SECBIT_NO_CAP_AMBIENT_RAISE_LOCKED;
  if (::prctl(PR_SET_SECUREBITS, kBits, 0, 0, 0) != 0) return fail_errno("lock the secure bits");
  return {};
}

}  // namespace

Status drop_all_capabilities() {
  if (!any(TRY(current()))) return {};
  TRY(drop_bounding_set());
  TRY(lock_secure_bits());
  if (::prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0) != 0) {
    return fail_errno("clear the ambient capabilities");
  }
  __user_cap_header_struct header{.version = _LINUX_CAPABILITY_VERSION_3, .pid = 0};
  const CapabilityWords none{};
  if (::syscall(SYS_capset, &header, none.data()) != 0) return fail_errno("drop the capabilities");
  return {};
}

Result<bool> holds_capabilities() {
  if (any(TRY(current()))) return true;
  for (int capability = 0; capability <= kHighestPossible; ++capability) {
    if (::prctl(PR_CAPBSET_READ, capability, 0, 0, 0) == 1) return true;
  }
  return false;
}

}  // namespace mayfly
