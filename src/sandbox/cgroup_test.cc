#include "sandbox/cgroup.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <algorithm>
#include <csignal>

#include <doctest/doctest.h>
#include "sandbox/testing/fake_cgroup_fs.h"

namespace mayfly {
namespace {

const std::map<std::string, std::string> kV1Memory = {
    {"memory.limit_in_bytes", "max"},
    {"memory.usage_in_bytes", "0"},
    {"memory.max_usage_in_bytes", "0"},
    {"memory.force_empty", ""},
    {"memory.oom_control", "under_oom 0\noom_kill 0\n"}};
const std::map<std::string, std::string> kV2 = {{"cgroup.controllers", "cpu memory pids\n"},
                                                {"cgroup.subtree_control", ""},
                                                {"cpu.max", "max"},
                                                {"cpu.weight", "100"},
                                                {"cpu.idle", "0"},
                                                {"cpu.stat", "usage_usec 1500\nuser_usec 0\n"},
                                                {"pids.max", "max"},
                                                {"memory.max", "max"},
                                                {"memory.swap.max", "max"},
                                                {"memory.current", "0"},
                                                {"memory.peak", "0"},
                                                {"memory.events", "low 0\noom_kill 0\n"}};

void mount_v1(FakeCgroupFs& fs) {
  fs.mount("/m", kV1Memory);
  fs.mount("/c", {{"cpu.cfs_period_us", ""}, {"cpu.cfs_quota_us", ""}, {"cpu.shares", "1024"}});
  fs.mount("/a", {{"cpuacct.usage", "42"}});
  fs.mount("/p", {{"pids.max", ""}});
}

const std::vector<CgroupHierarchy> kV1Hierarchies = {
    {.controllers = {"memory"}, .own = "/m"},
    {.controllers = {"cpu"}, .own = "/c"},
    {.controllers = {"cpuacct"}, .own = "/a"},
    {.controllers = {"pids"}, .own = "/p"},
};
const std::vector<CgroupHierarchy> kV2Hierarchies = {
    {.unified = true, .controllers = {}, .own = "/u"}};

const VersionLimits kLimits = {
    .cpus = 1.5, .cpu_weight = 25, .processes = 10, .instance_memory = mib(64)};

// What the fake and the kernel must both do.
void check_pool(CgroupFs& fs, const CgroupSupport& support) {
  auto node = NodeCgroups::open(fs, support, fmt::format("test{}", ::getpid()));
  REQUIRE(node.has_value());
  auto version = node->make_version("key", kLimits);
  REQUIRE(version.has_value());
  auto first = version->acquire();
  auto second = version->acquire();
  REQUIRE(first.has_value());
  REQUIRE(second.has_value());
  CHECK(first->index != second->index);
  CHECK(version->pool_size() == 2);
  CHECK(version->oom_kills(*first) == 0);
  version->release(*first);
  const auto again = version->acquire();
  REQUIRE(again.has_value());
  CHECK(again->index == first->index);
  CHECK(version->pool_size() == 2);
}

TEST_CASE("hierarchies are found in what the kernel says of v1, v2 and both") {
  const auto found = parse_hierarchies(
      "25 20 0:22 / /sys/fs/cgroup ro - tmpfs tmpfs ro\n"
      "26 25 0:23 / /sys/fs/cgroup/memory rw,relatime shared:9 - cgroup cgroup rw,memory\n"
      "27 25 0:24 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct\n"
      "28 25 0:25 /docker/x /sys/fs/cgroup/pids rw - cgroup cgroup rw,pids\n"
      "29 25 0:26 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw\n"
      "garbage\n30 25 - cgroup\n",
      "5:memory:/a/b\n4:cpu,cpuacct:/\n3:pids:/docker/x/y\n2:devices:/\n0::/"
      "user.slice\nnonsense\n");
  REQUIRE(found.size() == 4);
  CHECK(found[0].own == Path("/sys/fs/cgroup/memory/a/b"));
  CHECK(found[1].own == Path("/sys/fs/cgroup/cpu,cpuacct"));
  CHECK(found[1].controllers == std::vector<std::string>{"cpu", "cpuacct"});
  CHECK(found[2].own == Path("/sys/fs/cgroup/pids/y"));
  CHECK(found[3].unified);
  CHECK(found[3].own == Path("/sys/fs/cgroup/unified/user.slice"));
}

TEST_CASE("a mount that does not show the own group is left out") {
  CHECK(parse_hierarchies("1 1 0:1 /other /c rw - cgroup cgroup rw,pids\n", "3:pids:/mine\n")
            .empty());
}

TEST_CASE("v1 controllers limit CPU and processes of the version and memory of each instance") {
  FakeCgroupFs fs;
  mount_v1(fs);
  const CgroupSupport support = detect_cgroups(fs, kV1Hierarchies, "probe");
  CHECK(support.describe() == "limits memory (v1), CPU (v1), processes (v1)");
  check_pool(fs, support);
  auto node = NodeCgroups::open(fs, support, "n");
  REQUIRE(node.has_value());
  auto version = node->make_version("k", kLimits);
  REQUIRE(version.has_value());
  CHECK(fs.text("/c/mayfly-n/k/cpu.cfs_quota_us") == "150000");
  CHECK(fs.text("/c/mayfly-n/k/cpu.shares") == "256");
  CHECK(fs.text("/p/mayfly-n/k/pids.max") == "10");
  CHECK(version->template_joins().size() == 4);
  REQUIRE(version->acquire().has_value());
  CHECK(fs.text("/m/mayfly-n/k/i-0/memory.limit_in_bytes") == "67108864");
  CHECK(fs.text("/m/mayfly-n/k/template/memory.limit_in_bytes") == "max");
  CHECK(version->cpu_total() == std::chrono::nanoseconds(42));
}

TEST_CASE("a v2 tree beside v1 is joined only for what v1 does not do") {
  const auto found = [](const std::vector<CgroupHierarchy>& v1, bool with_memory) {
    FakeCgroupFs fs;
    mount_v1(fs);
    fs.mount("/u", with_memory ? kV2 : std::map<std::string, std::string>{});
    std::vector<CgroupHierarchy> all = v1;
    all.insert(all.end(), kV2Hierarchies.begin(), kV2Hierarchies.end());
    return detect_cgroups(fs, all, "probe").unified.has_value();
  };
  const auto without = [](std::size_t one) {
    std::vector<CgroupHierarchy> v1 = kV1Hierarchies;
    v1.erase(v1.begin() + static_cast<std::ptrdiff_t>(one));
    return v1;
  };
  CHECK_FALSE(found(kV1Hierarchies, false));
  CHECK(found(without(0), true));   // it limits memory
  CHECK(found(without(2), false));  // it counts processor time
}

TEST_CASE("guests are beside the node's group, idle as a whole, and go with it") {
  const VersionLimits guest{.cpus = 1.5, .guest = true, .template_memory = mib(64)};
  FakeCgroupFs v1;
  mount_v1(v1);
  {
    auto node = NodeCgroups::open(v1, detect_cgroups(v1, kV1Hierarchies, "probe"), "n");
    REQUIRE(node.has_value());
    auto job = node->make_version("j", guest);
    REQUIRE(job.has_value());
    CHECK(v1.text("/c/mayfly-n-guests/cpu.shares") == "2");
    CHECK(v1.text("/c/mayfly-n-guests/j/cpu.cfs_quota_us") == "150000");
    CHECK_FALSE(v1.has_group("/c/mayfly-n/j"));
  }
  CHECK_FALSE(v1.has_group("/c/mayfly-n-guests"));
  FakeCgroupFs v2;
  v2.mount("/u", kV2);
  auto node = NodeCgroups::open(v2, detect_cgroups(v2, kV2Hierarchies, "probe"), "n");
  REQUIRE(node.has_value());
  auto job = node->make_version("j", guest);
  REQUIRE(job.has_value());
  CHECK(v2.text("/u/mayfly-n-guests/cpu.weight") == "1");
  CHECK(v2.text("/u/mayfly-n-guests/cpu.idle") == "1");
  CHECK(v2.text("/u/mayfly-n-guests/j/memory.max") == "max");
}

TEST_CASE("a delegated v2 tree hands its controllers down and moves the server into a leaf") {
  FakeCgroupFs fs;
  fs.mount("/u", kV2);
  fs.enter("/u", 77);
  const CgroupSupport support = detect_cgroups(fs, kV2Hierarchies, "probe");
  CHECK(support.describe() == "limits memory (v2), CPU (v2), processes (v2)");
  CHECK(*fs.read("/u/mayfly-server/cgroup.procs") == "77\n");
  check_pool(fs, support);
  auto node = NodeCgroups::open(fs, support, "n");
  REQUIRE(node.has_value());
  auto version = node->make_version("k", kLimits);
  REQUIRE(version.has_value());
  CHECK(fs.text("/u/mayfly-n/k/cpu.max") == "150000 100000");
  CHECK(fs.text("/u/mayfly-n/k/cpu.weight") == "25");
  CHECK(fs.text("/u/mayfly-n/k/cgroup.subtree_control") == "+memory");
  REQUIRE(version->acquire().has_value());
  CHECK(fs.text("/u/mayfly-n/k/i-0/memory.max") == "67108864");
  CHECK(fs.text("/u/mayfly-n/k/i-0/memory.swap.max") == "0");
  CHECK(version->cpu_total() == std::chrono::microseconds(1500));
}

TEST_CASE("without a controller the groups limit nothing and say so") {
  FakeCgroupFs fs;
  mount_v1(fs);
  for (const char* place : {"/m", "/c", "/a", "/p"}) fs.forbid(place);
  const CgroupSupport support = detect_cgroups(fs, kV1Hierarchies, "probe");
  CHECK(support.describe() == "no controller may be used here: nothing is limited");
  auto node = NodeCgroups::open(fs, support, "n");
  REQUIRE(node.has_value());
  auto version = node->make_version("k", kLimits);
  REQUIRE(version.has_value());
  const auto slot = version->acquire();
  REQUIRE(slot.has_value());
  CHECK(slot->join == -1);
  CHECK_FALSE(version->peak_memory(*slot).has_value());
  CHECK_FALSE(version->cpu_total().has_value());
  version->release(*slot);
}

TEST_CASE("what a dead node left is killed and swept, another node's groups are not") {
  FakeCgroupFs fs;
  mount_v1(fs);
  const CgroupSupport support = detect_cgroups(fs, kV1Hierarchies, "probe");
  for (const char* group :
       {"/m/mayfly-n", "/m/mayfly-n/k", "/m/mayfly-n/k/i-3", "/m/mayfly-other"}) {
    REQUIRE(fs.make(group).has_value());
  }
  fs.enter("/m/mayfly-n/k/i-3", 4711);
  fs.enter("/m/mayfly-other", 4712);
  const auto node = NodeCgroups::open(fs, support, "n");
  REQUIRE(node.has_value());
  CHECK(fs.killed() == std::vector<pid_t>{4711});
  CHECK_FALSE(fs.has_group("/m/mayfly-n/k"));
  CHECK(fs.has_group("/m/mayfly-other"));
}

TEST_CASE("a group in which a process lingers is killed and not used until it is empty") {
  FakeCgroupFs fs;
  mount_v1(fs);
  auto node = NodeCgroups::open(fs, detect_cgroups(fs, kV1Hierarchies, "probe"), "n");
  REQUIRE(node.has_value());
  auto version = node->make_version("k", kLimits);
  REQUIRE(version.has_value());
  const auto slot = version->acquire();
  REQUIRE(slot.has_value());
  fs.enter("/m/mayfly-n/k/i-0", 99);
  version->release(*slot);
  CHECK(fs.killed() == std::vector<pid_t>{99});
  CHECK(version->acquire()->index == 0);
}

TEST_CASE("groups are removed with their owners") {
  FakeCgroupFs fs;
  mount_v1(fs);
  const std::size_t before = fs.group_count();
  {
    auto node = NodeCgroups::open(fs, detect_cgroups(fs, kV1Hierarchies, "probe"), "n");
    REQUIRE(node.has_value());
    auto version = node->make_version("k", kLimits);
    REQUIRE(version.has_value());
    REQUIRE(version->acquire().has_value());
    CHECK(fs.group_count() > before);
  }
  CHECK(fs.group_count() == before);
}

// Not instrumented: a sanitizer's shadow of these pages would count, too.
__attribute__((no_sanitize("thread", "address"))) void touch(void* block, std::size_t bytes) {
  for (std::size_t i = 0; i < bytes; i += 4096) static_cast<volatile char*>(block)[i] = 1;
}

// Joins the group and touches `bytes`; exits 0 if it lives to tell.
pid_t start_eater(int join, std::size_t bytes) {
  const pid_t pid = ::fork();
  if (pid != 0) return pid;
  if (::write(join, "0", 1) != 1) ::_exit(2);
  void* block = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  if (block == MAP_FAILED) ::_exit(3);
  touch(block, bytes);
  ::_exit(0);
}

TEST_CASE("the kernel's groups: the pool, an out-of-memory kill, the peak, the sweep") {
  RealCgroupFs fs;
  const auto support = detect_cgroups(fs);
  REQUIRE(support.has_value());
  if (!support->limits_memory()) {
    MESSAGE("skipped: ", support->describe());
    return;
  }
  check_pool(fs, *support);
  auto node = NodeCgroups::open(fs, *support, fmt::format("bomb{}", ::getpid()));
  REQUIRE(node.has_value());
  auto version = node->make_version("v", {.cpus = 1, .processes = 16, .instance_memory = mib(32)});
  REQUIRE(version.has_value());
  const auto slot = version->acquire();
  REQUIRE(slot.has_value());
  int status = 0;

  ::waitpid(start_eater(slot->join, mib(16).count), &status, 0);
  CHECK(WIFEXITED(status));
  CHECK(version->peak_memory(*slot)->count >= mib(16).count);
  CHECK(version->oom_kills(*slot) == 0);
  version->release(*slot);
  REQUIRE(version->acquire()->index == slot->index);
  CHECK(version->peak_memory(*slot)->count < mib(8).count);

  ::waitpid(start_eater(slot->join, mib(64).count), &status, 0);
  CHECK(WIFSIGNALED(status));
  CHECK(version->oom_kills(*slot) == 1);
  CHECK(version->peak_memory(*slot)->count <= mib(32).count);
}

TEST_CASE("kill_all ends every process of the version") {
  RealCgroupFs fs;
  const auto support = detect_cgroups(fs);
  REQUIRE(support.has_value());
  auto node = NodeCgroups::open(fs, *support, fmt::format("kill{}", ::getpid()));
  REQUIRE(node.has_value());
  auto version = node->make_version("v", {});
  REQUIRE(version.has_value());
  if (version->template_joins().empty()) {
    MESSAGE("skipped: ", support->describe());
    return;
  }
  auto joined = make_pipe();
  REQUIRE(joined.has_value());
  const pid_t pid = ::fork();
  if (pid == 0) {
    for (const int join : version->template_joins()) (void)!::write(join, "0", 1);
    (void)!::write(joined->write_end.get(), "j", 1);
    while (true) ::pause();
  }
  char byte = 0;
  REQUIRE(::read(joined->read_end.get(), &byte, 1) == 1);
  version->kill_all();
  int status = 0;
  ::waitpid(pid, &status, 0);
  CHECK(WIFSIGNALED(status));
  CHECK(WTERMSIG(status) == SIGKILL);
}

}  // namespace
}  // namespace mayfly
