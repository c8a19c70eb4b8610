// Which jobs install packages, what each is given, and whom it is connected with; the jobs are
// played by the test.
#include "publish/environments.h"

#include <filesystem>
#include <functional>
#include <memory>
#include <string>

#include "async/loop.h"
#include "async/pool.h"
#include "core/reason.h"
#include "store/testing/fake_blob_store.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

Result<BlobInfo> keep(BlobStore& blobs, std::string_view text) {
  const auto writer = TRY(blobs.create());
  TRY(writer->append(std::as_bytes(std::span(text))));
  return writer->commit();
}

void leave(const Path& work, const std::string& name, std::string_view text) {
  REQUIRE(make_directories((work / name).parent_path()).has_value());
  REQUIRE(write_file_durably(work / name, text).has_value());
}

// Plays each job in turn, and keeps what it was told when it asked for a connection.
class InstallJobs final : public JobRunner {
 public:
  using Play = std::function<void(const JobSpec&, int turn)>;
  InstallJobs(Loop& loop, Play play) : loop_(loop), play_(std::move(play)) {}

  Result<std::unique_ptr<Job>> run_job(JobSpec spec, JobEvents events) override {
    struct Played final : Job {
      explicit Played(InstallJobs& owner) : jobs(owner) {}
      void kill() override {}
      void send(std::string_view text, Fd) override {
        jobs.told.emplace_back(text);
        jobs.finish();
      }
      InstallJobs& jobs;
    };
    tools.push_back(spec.tools);
    finish_ = [this, spec = std::move(spec), on_end = std::move(events.on_end)]() mutable {
      play_(spec, turn_++);
      on_end(JobEnd{});
    };
    loop_.post([this, on_progress = std::move(events.on_progress)]() mutable {
      if (asks.empty()) return finish();
      on_progress(asks);
    });
    return std::make_unique<Played>(*this);
  }

  std::string asks;  // a message that each job sends first; empty: none
  std::vector<std::string> told;
  std::vector<JobTools> tools;

 private:
  void finish() {
    loop_.post([finish = std::exchange(finish_, {})]() mutable { finish(); });
  }
  Loop& loop_;
  Play play_;
  int turn_ = 0;
  std::move_only_function<void()> finish_;
};

struct Installer {
  explicit Installer(InstallJobs::Play play)
      : jobs(loop, std::move(play)),
        environments({loop, pool, jobs}, {dir.path() / "environments", dir.path() / "tmp"},
                     {.url = "https://index.example",
                      .hosts = {"index.example:443"},
                      .debian_hosts = {"mirror.example:80"}}) {
    for (const char* folder : {"environments", "tmp"})
      REQUIRE(make_directories(dir.path() / folder).has_value());
    REQUIRE(keep(blobs, "six\n").has_value());
    wanted = {.label = "f",
              .files = {{{"requirements.txt", sha256_hex("six\n"), 4}, &blobs}},
              .memory = mib(64),
              .timeout = std::chrono::minutes(1)};
  }
  Result<Environment> provide() { return loop.run(environments.provide(wanted, {})); }

  TempDir dir = *TempDir::create();
  SystemClock clock;
  FakeBlobStore blobs{clock};
  Loop loop;
  Pool pool{loop, "publish", 1};
  InstallJobs jobs;
  Environments environments;
  Environments::Wanted wanted{};
};

constexpr const char* kBuildNext = R"({"next":"build"})";
constexpr const char* kInstallNext = R"({"next":"install"})";
constexpr const char* kDone = R"({"lock":"six==1.16.0 --hash=sha256:00\n"})";

bool is_there(const Path& path) { return std::filesystem::exists(path); }

}  // namespace

TEST_CASE("installing and building take turns, and each finds what the others left") {
  Installer node([](const JobSpec& spec, int turn) {
    const Path fetched = spec.source / "fetched";
    const Path built = spec.source / "built";
    CHECK(is_there(spec.source / "requirements.txt"));
    CHECK(std::filesystem::is_empty(spec.work));
    if (turn == 0) {
      CHECK_FALSE(is_there(fetched));
      leave(spec.work, "fetched/sources/a.tar.gz", "a");
      leave(spec.work, "resolved.json", kBuildNext);
    } else if (turn == 1) {
      CHECK(is_there(fetched / "sources/a.tar.gz"));
      leave(spec.work, "built/a.whl", "wheel");
      leave(spec.work, "resolved.json", kInstallNext);
    } else {
      CHECK(is_there(built / "1/a.whl"));
      CHECK(is_there(fetched / "sources/a.tar.gz"));
      leave(spec.work, "environment/a.py", "");
      leave(spec.work, "resolved.json", kDone);
    }
  });
  node.wanted.build = true;
  const auto made = node.provide();
  REQUIRE_MESSAGE(made.has_value(), made.error().message);
  CHECK(node.jobs.tools == std::vector{JobTools::Install, JobTools::Build, JobTools::Install});
  CHECK(is_there(node.environments.folder(*made) / "a.py"));
  // The same again is found; without building it is something else.
  CHECK(node.provide()->digest == made->digest);
  CHECK(node.jobs.tools.size() == 3);
}

TEST_CASE("nothing is built that was not to be, and not for ever") {
  const auto always = [](const JobSpec& spec, int turn) {
    leave(spec.work, turn % 2 == 0 ? "fetched/a" : "built/a", "");
    leave(spec.work, "resolved.json", turn % 2 == 0 ? kBuildNext : kInstallNext);
  };
  Installer node(always);
  CHECK(node.provide().error().reason == reason::kInvalidModel);
  CHECK(node.jobs.tools.size() == 1);
  Installer endless(always);
  endless.wanted.build = true;
  CHECK(endless.provide().error().reason == reason::kInvalidModel);
  CHECK(endless.jobs.tools.size() < 40);
}

TEST_CASE("only installing ends it: what a build leaves is no environment") {
  for (const bool debian : {false, true}) {
    Installer node([debian](const JobSpec& spec, int turn) {
      const bool builds = turn == 1 || debian;
      leave(spec.work, builds ? "environment/forged.py" : "fetched/a", "");
      leave(spec.work, "resolved.json", builds ? kDone : kBuildNext);
    });
    node.wanted.build = true;
    if (debian) node.wanted.debian = {"python3-x"};
    CHECK(node.provide().error().message.contains("ended before they were"));
    CHECK(node.jobs.tools.size() == (debian ? 1 : 2));
  }
}

TEST_CASE("an environment that is not the expected one is installed again") {
  Installer node([](const JobSpec& spec, int turn) {
    leave(spec.work, "environment/six.py", turn == 0 ? "other" : "x = 1");
    leave(spec.work, "resolved.json", kDone);
  });
  const auto other = node.provide();
  REQUIRE(other.has_value());
  node.wanted.digest = std::string(64, 'a');
  const auto made = node.provide();
  REQUIRE(made.has_value());
  CHECK(made->digest != other->digest);
  node.wanted.digest = made->digest;
  CHECK(node.provide()->digest == made->digest);
  CHECK(node.jobs.tools.size() == 2);
}

TEST_CASE("a lock that no later request would have room for is refused") {
  Installer node([](const JobSpec& spec, int) {
    leave(spec.work, "environment/six.py", "");
    leave(spec.work, "resolved.json", R"({"lock":")" + std::string(64 * 1024, 'x') + R"("})");
  });
  CHECK(node.provide().error().message.contains("too many"));
}

TEST_CASE("packages of Debian come first and lie in usr/ of the environment") {
  Installer node([](const JobSpec& spec, int turn) {
    if (turn == 0) {
      leave(spec.work, "debian/usr/lib/x.so", "x");
      leave(spec.work, "debian/debian.json", "{}");
      leave(spec.work, "resolved.json", kInstallNext);
      return;
    }
    CHECK(is_there(spec.source / "debian/debian.json"));
    leave(spec.work, "environment/six.py", "");
    leave(spec.work, "resolved.json", kDone);
  });
  node.wanted.debian = {"python3-x"};
  const auto made = node.provide();
  REQUIRE_MESSAGE(made.has_value(), made.error().message);
  CHECK(node.jobs.tools == std::vector{JobTools::Debian, JobTools::Install});
  CHECK(is_there(node.environments.folder(*made) / "usr/lib/x.so"));
}

TEST_CASE("each job is connected with its own hosts, and a build with nobody") {
  Installer node([](const JobSpec& spec, int turn) {
    const bool builds = spec.tools == JobTools::Build;
    if (spec.tools == JobTools::Debian) leave(spec.work, "debian/usr/x", "");
    leave(spec.work, builds ? "built/a" : "fetched/a", "");
    leave(spec.work, "environment/a.py", "");
    leave(spec.work, "resolved.json", turn == 1 ? kBuildNext : turn < 3 ? kInstallNext : kDone);
  });
  node.wanted.build = true;
  node.wanted.debian = {"python3-x"};
  node.jobs.asks = R"({"connect":{"host":"elsewhere.example","port":443}})";
  REQUIRE(node.provide().has_value());
  REQUIRE(node.jobs.told.size() == 4);
  CHECK(node.jobs.told[0].contains("none of the mirrors"));
  CHECK(node.jobs.told[1].contains("python.index_hosts"));
  CHECK(node.jobs.told[2] == "what is built has no connections");
}

TEST_CASE("links that a building job leaves are not taken") {
  Installer node([](const JobSpec& spec, int turn) {
    if (turn == 0) {
      leave(spec.work, "fetched/a", "");
      leave(spec.work, "resolved.json", kBuildNext);
      return;
    }
    REQUIRE(make_directories(spec.work / "built").has_value());
    std::filesystem::create_symlink("/etc/passwd", spec.work / "built" / "a.whl");
    leave(spec.work, "resolved.json", kInstallNext);
  });
  node.wanted.build = true;
  CHECK(node.provide().error().message.contains("is a link"));
}
