#include "sandbox/seccomp.h"

#include <fmt/format.h>
#include <linux/seccomp.h>
#include <seccomp.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

#include "base/fd.h"
#include "sandbox/seccomp_table.h"

namespace mayfly {
namespace {

struct ReleaseContext {
  void operator()(void* context) const { seccomp_release(context); }
};
using Context = std::unique_ptr<void, ReleaseContext>;

// libseccomp returns a negative errno.
Status check(int result, std::string_view what) {
  if (result == 0) return {};
  return std::unexpected(errno_error(fmt::format("seccomp filter: {}", what), -result));
}

Status add_rule(const Context& context, const SyscallRule& rule) {
  const int number = seccomp_syscall_resolve_name(rule.name.data());
  if (number < 0) return {};  // arm64 has no open, stat, poll…
  if (rule.argument.mask == 0) {
    return check(seccomp_rule_add_array(context.get(), SCMP_ACT_ALLOW, number, 0, nullptr),
                 rule.name);
  }
  const scmp_arg_cmp compare = {.arg = rule.argument.index,
                                .op = SCMP_CMP_MASKED_EQ,
                                .datum_a = rule.argument.mask,
                                .datum_b = rule.argument.value};
  return check(seccomp_rule_add_array(context.get(), SCMP_ACT_ALLOW, number, 1, &compare),
               rule.name);
}

Result<SeccompProgram> exported(const Context& context) {
  const Fd file(::memfd_create("seccomp", MFD_CLOEXEC));
  if (!file) return fail_errno("memfd_create");
  TRY(check(seccomp_export_bpf(context.get(), file.get()), "export"));
  if (::lseek(file.get(), 0, SEEK_SET) != 0) return fail_errno("lseek");
  const std::string bytes = TRY(read_all_fd(file.get(), BPF_MAXINSNS * sizeof(sock_filter)));
  SeccompProgram program(bytes.size() / sizeof(sock_filter));
  std::memcpy(program.data(), bytes.data(), program.size() * sizeof(sock_filter));
  return program;
}

}  // namespace

Result<SeccompProgram> compile_seccomp(Profile profile) {
  const Context context(seccomp_init(SCMP_ACT_ERRNO(EPERM)));
  if (!context) return fail(Code::Internal, "seccomp filter: libseccomp cannot start");
  TRY(check(seccomp_attr_set(context.get(), SCMP_FLTATR_ACT_BADARCH, SCMP_ACT_KILL_PROCESS),
            "foreign"));
  // A binary tree: the kernel walks the filter for every number when it is installed, which for a
  // linear list of this length costs more than the fork it stands beside.
  TRY(check(seccomp_attr_set(context.get(), SCMP_FLTATR_CTL_OPTIMIZE, 2), "optimize"));
  for (const SyscallRule& rule : seccomp_table()) {
    if (rule.profiles.has(profile)) TRY(add_rule(context, rule));
  }
  TRY(check(seccomp_rule_add(context.get(), SCMP_ACT_ERRNO(ENOSYS), SCMP_SYS(clone3), 0),
            "clone3"));
  return exported(context);
}

Status install_seccomp(const SeccompProgram& program) {
  const sock_fprog filter = {.len = static_cast<unsigned short>(program.size()),
                             .filter = const_cast<sock_filter*>(program.data())};
  if (::syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter) != 0) {
    return fail_errno("install the system-call filter (the kernel needs CONFIG_SECCOMP_FILTER)");
  }
  return {};
}

Result<SeccompFilters> SeccompFilters::compile() {
  SeccompFilters filters;
  for (std::size_t i = 0; i < kProfileCount; ++i) {
    filters.programs_.at(i) = TRY(compile_seccomp(static_cast<Profile>(i)));
  }
  return filters;
}

}  // namespace mayfly
