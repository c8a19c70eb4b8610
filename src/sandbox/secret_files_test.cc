#include "sandbox/secret_files.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cerrno>

#include <doctest/doctest.h>
#include "sandbox/testing/jail_harness.h"

namespace mayfly {
namespace {

std::vector<Secret> two_secrets() {
  std::vector<Secret> secrets;
  secrets.push_back({.name = "API_KEY", .value = SecretBytes("hunter2")});
  secrets.push_back({.name = "LARGE", .value = SecretBytes(std::string(kMaxSecretBytes, 'l'))});
  return secrets;
}

// What the code of a jail finds at /secrets, and may not do there.
std::string try_secrets() {
  std::string wrong;
  const int file = ::open("/secrets/API_KEY", O_RDONLY | O_CLOEXEC);
  std::array<char, 64> text{};
  const ssize_t got = ::read(file, text.data(), text.size());
  if (got != 7 || std::string_view(text.data(), 7) != "hunter2") wrong += "no value ";
  struct stat status{};
  if (::fstat(file, &status) != 0 || (status.st_mode & 07777) != 0400) wrong += "mode ";
  const int large = ::open("/secrets/LARGE", O_RDONLY | O_CLOEXEC);
  if (::fstat(large, &status) != 0 || status.st_size != kMaxSecretBytes) wrong += "size ";
  if (::open("/secrets/API_KEY", O_WRONLY | O_CLOEXEC) >= 0) wrong += "opened to write ";
  if (::open("/secrets/NEW", O_WRONLY | O_CREAT | O_CLOEXEC, 0600) >= 0) wrong += "made one ";
  if (::unlink("/secrets/API_KEY") == 0) wrong += "removed one ";
  return wrong;
}

std::string look_for_secrets() {
  const int folder = ::open("/secrets", O_RDONLY | O_CLOEXEC);
  return folder < 0 ? "none" : "there are some";
}

}  // namespace

TEST_CASE("a jail's secrets are files that it can read and not change") {
  for (const RunAs as : {RunAs::Self, RunAs::OrdinaryUser}) {
    if (as == RunAs::OrdinaryUser && !running_as_root()) continue;
    const auto packed = pack_secrets(two_secrets());
    REQUIRE(packed.has_value());
    JailPlan plan = full_plan(Profile::PythonTemplate);
    plan.has_secrets = true;
    plan.secrets = packed->get();
    const JailRun run = run_in_jail(plan, try_secrets, {.as = as});
    CHECK(run.error == "");
    CHECK(run.report == "");
    // The file system refuses by itself, without Landlock.
    CHECK(run_in_jail(JailPlanSurgeon::without(plan, {Layer::Landlock}), try_secrets, {.as = as})
              .report == "");
    // In an instance as in its template.
    CHECK(run_in_jail(plan, try_secrets, {.as = as, .instance = Profile::PythonInstance}).report ==
          "");
  }
}

TEST_CASE("a jail without secrets has no folder of them") {
  const JailRun run = run_in_jail(full_plan(Profile::PythonTemplate), look_for_secrets);
  CHECK(run.error == "");
  CHECK(run.report == "none");
}

TEST_CASE("secrets arrive as they were packed, and a file that says otherwise is refused") {
  const auto packed = pack_secrets(two_secrets());
  REQUIRE(packed.has_value());
  for (int time = 0; time < 2; ++time) {  // the offset of the file is nobody's
    const auto secrets = unpack_secrets(packed->get());
    REQUIRE(secrets.has_value());
    REQUIRE(secrets->size() == 2);
    CHECK(secrets->at(0).name == "API_KEY");
    CHECK(secrets->at(1).value.view().size() == kMaxSecretBytes);
  }
  CHECK(::write(packed->get(), "x", 1) < 0);  // sealed
  for (const std::string_view bytes :
       {std::string_view("\x01", 1), std::string_view("\x03\0A", 3), std::string_view("\x01\0A", 3),
        std::string_view("\x01\0A\xFF\0\0\0v", 8), std::string_view("\x01\0/\x01\0\0\0v", 8)}) {
    const Fd file(::memfd_create("secrets", MFD_CLOEXEC));
    REQUIRE(write_all(file.get(), bytes));
    CHECK_FALSE(unpack_secrets(file.get()).has_value());
  }
}

TEST_CASE("a plan with secrets arrives as one, and a model's jail has none") {
  JailPlan plan = full_plan(Profile::PythonPublish);
  plan.ids = {.user = 1000, .group = 1000};
  plan.has_secrets = true;
  CHECK(decode_plan(encode_plan(plan).value())->has_secrets);
  plan.profile = Profile::Template;
  CHECK_FALSE(encode_plan(plan).has_value());
}

}  // namespace mayfly
