#include "sandbox/doctor.h"

#include <fcntl.h>
#include <linux/sched.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>

#include <doctest/doctest.h>
#include "core/reason.h"
#include "sandbox/cgroup_fs.h"
#include "sandbox/testing/jail_harness.h"

namespace mayfly {
namespace {

TEST_CASE("the doctor names every layer once, in order, with a mend for each that is not active") {
  RealCgroupFs fs;
  const auto support = detect_cgroups(fs);
  REQUIRE(support.has_value());
  const auto layers = examine_layers(*support);
  REQUIRE(layers.size() == kLayerCount);
  for (std::size_t i = 0; i < kLayerCount; ++i) {
    CAPTURE(to_string(layers[i].layer));
    CHECK(layers[i].layer == static_cast<Layer>(i));
    CHECK_FALSE(layers[i].detail.empty());
    CHECK((layers[i].state == LayerState::Active) == layers[i].mend.empty());
  }
}

TEST_CASE("where a jail can be made the doctor finds its layers") {
  if (!run_in_jail(full_plan(Profile::Template), [] { return std::string(); }).error.empty()) {
    MESSAGE("skipped: no jail can be made here");
    return;
  }
  for (const LayerHealth& health : examine_layers({})) {
    CAPTURE(to_string(health.layer));
    CAPTURE(health.detail);
    const bool may_lack = health.layer == Layer::Cgroup || health.layer == Layer::Landlock;
    CHECK((may_lack || health.state == LayerState::Active));
  }
}

TEST_CASE("without a controller the cgroup layer is missing, with one of three degraded") {
  CHECK(examine_layers({}).back().state == LayerState::Missing);
  CgroupSupport support;
  support.memory = "/m";
  CHECK(examine_layers(support).back().state == LayerState::Degraded);
  support.cpu = "/c";
  support.processes = "/p";
  CHECK(examine_layers(support).back().state == LayerState::Active);
}

TEST_CASE("the doctor sees that namespaces are refused") {
  // A namespace whose owner allows no further ones. fork() would bring the sanitizers' threads
  // along.
  const long child = ::syscall(SYS_clone, CLONE_NEWUSER | SIGCHLD, 0UL, nullptr, 0UL, 0UL);
  if (child < 0) {
    MESSAGE("skipped: no user namespace can be made here");
    return;
  }
  if (child == 0) {
    const int limit = ::open("/proc/sys/user/max_user_namespaces", O_WRONLY | O_CLOEXEC);
    if (::write(limit, "0", 1) != 1) ::_exit(2);
    const LayerHealth health = examine_layers({}).front();
    ::_exit(health.state == LayerState::Missing && !health.mend.empty() ? 0 : 1);
  }
  int status = 0;
  ::waitpid(static_cast<pid_t>(child), &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(WEXITSTATUS(status) == 0);
}

TEST_CASE("strict isolation refuses with every missing layer and its mend") {
  CHECK(require_every_layer({{Layer::Seccomp, LayerState::Active, "ok", ""},
                             {Layer::Landlock, LayerState::Degraded, "old", "newer"}})
            .has_value());
  const Status refused =
      require_every_layer({{Layer::Seccomp, LayerState::Missing, "no", "mend it"},
                           {Layer::Cgroup, LayerState::Missing, "none", "delegate"}});
  REQUIRE_FALSE(refused.has_value());
  CHECK(refused.error().reason == reason::kWeakIsolation);
  CHECK(refused.error().message ==
        "isolation_level is strict, but missing: seccomp (no; mend: mend it); cgroup (none; mend: "
        "delegate)");
}

}  // namespace
}  // namespace mayfly
