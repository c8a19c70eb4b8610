// A jail that is made before its version is known, and what it is once it was given one.
#include <fcntl.h>
#include <fmt/format.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cerrno>
#include <string>
#include <utility>
#include <vector>

#include "base/file.h"
#include "sandbox/caps.h"
#include "sandbox/secret_files.h"
#include "sandbox/testing/jail_harness.h"

#include <doctest/doctest.h>

namespace mayfly {
namespace {

std::vector<RunAs> root_and_others() {
  if (running_as_root()) return {RunAs::Self, RunAs::OrdinaryUser};
  return {RunAs::Self};
}

// Readable by the jail's id, as a compiled folder is.
class Version {
 public:
  Version() : folder_(TempDir::create()) {
    REQUIRE(folder_.has_value());
    REQUIRE(::chmod(path().c_str(), 0755) == 0);
    REQUIRE(write_file_durably(path() + "/model", "weights").has_value());
    REQUIRE(::chmod((path() + "/model").c_str(), 0755) == 0);
    plan.mounts = {{.source = path(), .target = "/artifact"}};
  }
  std::string path() const { return folder_->path(); }

 private:
  Result<TempDir> folder_;

 public:
  JailPlan plan = full_plan(Profile::PythonTemplate);
};

JailPlan awaiting() {
  JailPlan plan = full_plan(Profile::PythonTemplate);
  plan.awaits_version = true;
  plan.limits.scratch_bytes = 1 << 20;
  return plan;
}

std::string content_of(const char* path) {
  const Fd file(::open(path, O_RDONLY | O_CLOEXEC));
  if (!file) return fmt::format("errno {}", errno);
  std::string text(64, '\0');
  const ssize_t got = ::read(file.get(), text.data(), text.size());
  text.resize(got < 0 ? 0 : static_cast<std::size_t>(got));
  return text;
}

std::string allowed(std::string_view what, long result) {
  return result < 0 ? std::string() : fmt::format("{} ", what);
}

// What nothing in a jail may do, with a version or before it has one.
std::string forbidden_that_works() {
  std::string works;
  works += allowed("umount", ::umount2("/given/artifact", MNT_DETACH));
  works += allowed("mount", ::mount("none", "/tmp", "tmpfs", 0, nullptr));
  works += allowed("unshare", ::unshare(CLONE_NEWUSER));
  works += allowed("write", ::open("/artifact/model", O_WRONLY));
  works += allowed("create", ::open("/artifact/new", O_CREAT | O_WRONLY, 0600));
  works += allowed("beside", ::open("/given/new", O_CREAT | O_WRONLY, 0600));
  works += allowed("root", ::open("/new", O_CREAT | O_WRONLY, 0600));
  works += allowed("unlink", ::unlink("/artifact/model"));
  works += allowed("rename", ::rename("/artifact", "/tmp/artifact"));
  works += allowed("processes", ::open("/proc/1/status", O_RDONLY));
  const Fd file(::open("/artifact/model", O_RDONLY | O_CLOEXEC));
  if (file) {
    void* const code = ::mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE, file.get(), 0);
    works += allowed("map as code", code == MAP_FAILED ? -1 : 0);
  }
  const auto powerful = holds_capabilities();
  works += allowed("capabilities", powerful && *powerful ? 0 : -1);
  return works;
}

TEST_CASE("a jail that awaits a version has it where every jail has it once it was given") {
  for (const RunAs as : root_and_others()) {
    const Version version;
    const JailRun run = run_in_jail(awaiting(), [] { return content_of("/artifact/model"); },
                                    {.as = as, .version = &version.plan});
    CHECK(run.error.empty());
    CHECK(run.report == "weights");
  }
}

TEST_CASE("before it was given one it has none, and may do no more") {
  for (const RunAs as : root_and_others()) {
    const JailRun run = run_in_jail(
        awaiting(), [] { return content_of("/artifact/model") + " " + forbidden_that_works(); },
        {.as = as});
    CHECK(run.error.empty());
    CHECK(run.report == fmt::format("errno {} ", ENOENT));
  }
}

TEST_CASE("nothing in a jail that was given its version may change it or undo it") {
  for (const RunAs as : root_and_others()) {
    for (const bool in_instance : {false, true}) {
      const Version version;
      JailRunOptions options{.as = as, .version = &version.plan};
      if (in_instance) options.instance = Profile::PythonInstance;
      const JailRun run = run_in_jail(awaiting(), forbidden_that_works, options);
      CHECK(run.error.empty());
      CHECK(run.report.empty());
      CHECK(run.signal == 0);
    }
  }
}

TEST_CASE("a version's secrets come with it, for its jail's id alone") {
  for (const RunAs as : root_and_others()) {
    Version version;
    std::vector<Secret> secrets;
    secrets.push_back({.name = "API_KEY", .value = SecretBytes("hunter2")});
    const Fd packed = pack_secrets(secrets).value();
    version.plan.has_secrets = true;
    version.plan.secrets = packed.get();
    const JailRun run =
        run_in_jail(awaiting(),
                    [] {
                      return content_of("/secrets/API_KEY") + " " +
                             allowed("write", ::open("/secrets/API_KEY", O_WRONLY)) +
                             allowed("create", ::open("/secrets/new", O_CREAT | O_WRONLY, 0600));
                    },
                    {.as = as, .version = &version.plan});
    CHECK(run.error.empty());
    CHECK(run.report == "hunter2 ");
  }
}

TEST_CASE("a version that is not there leaves the jail without one, and says what is missing") {
  Version version;
  version.plan.mounts = {{.source = "/nowhere/at/all", .target = "/artifact"}};
  const JailRun run = run_in_jail(awaiting(), [] { return content_of("/artifact/model"); },
                                  {.version = &version.plan});
  CHECK(run.error.find("/nowhere/at/all") != std::string::npos);
}

TEST_CASE("only a template of Python may await a version, and it knows nothing before") {
  JailPlan plan = awaiting();
  plan.ids = {.user = 7, .group = 7};
  CHECK(validate(plan).has_value());
  const auto decoded = decode_plan(encode_plan(plan).value());
  REQUIRE(decoded.has_value());
  CHECK(decoded->awaits_version);
  plan.has_secrets = true;
  CHECK_FALSE(validate(plan).has_value());
  for (const Profile profile : {Profile::Template, Profile::Publish, Profile::PythonPublish}) {
    JailPlan other = full_plan(profile);
    other.ids = plan.ids;
    other.awaits_version = true;
    CHECK_FALSE(validate(other).has_value());
  }
}

}  // namespace
}  // namespace mayfly
