// The server's side without a jail: keys, compiled folders, hostile leftovers, and a job that is
// played by the test.
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <filesystem>
#include <fstream>
#include <memory>
#include <string>

#include "async/loop.h"
#include "async/pool.h"
#include "core/reason.h"
#include "publish/compiled_store.h"
#include "publish/job_outcome.h"
#include "publish/publisher.h"
#include "publish/source_folder.h"
#include "publish/target.h"
#include "store/testing/fake_blob_store.h"

#include <doctest/doctest.h>

using namespace mayfly;
using namespace std::chrono_literals;

namespace {

const CompileTarget kTarget{"1.31.1", "x86_64 avx2"};

Result<BlobInfo> keep(BlobStore& blobs, std::string_view text) {
  const auto writer = TRY(blobs.create());
  TRY(writer->append(std::as_bytes(std::span(text))));
  return writer->commit();
}

void put(const Path& path, std::string_view text) {
  REQUIRE(write_file_durably(path, text).has_value());
}

Report sample_report() {
  Report report;
  report.runtime_version = "1.31.1";
  report.signature.inputs = {{"x", DataType::Fp32, {-1}}};
  report.signature.outputs = {{"y", DataType::Fp32, {-1}}};
  report.candidates = {Candidate{}};
  report.files = {{"load.json", 2}, {"model.onnx", 5}};
  return report;
}

void leave_result(const Path& work, const Report& report) {
  REQUIRE(make_directories(work / "out").has_value());
  put(work / "out/load.json", "{}");
  put(work / "out/model.onnx", "bytes");
  put(work / "report.json", to_json(PublishOutcome(report)));
}

// Plays the jail: `play` fills the work folder and says how the job ended.
class PlayedJobs final : public JobRunner {
 public:
  PlayedJobs(Loop& loop, std::move_only_function<JobEnd(const JobSpec&)> play)
      : loop_(loop), play_(std::move(play)) {}
  Result<std::unique_ptr<Job>> run_job(JobSpec spec, JobEvents events) override {
    ++runs;
    struct Played final : Job {
      void kill() override {}
      void send(std::string_view, Fd) override {}
    };
    loop_.post([this, spec = std::move(spec), events = std::move(events)]() mutable {
      events.on_progress(R"({"step":"optimise","detail":"onnx, all"})");
      events.on_progress("nonsense");
      events.on_end(play_(spec));
    });
    return std::make_unique<Played>();
  }
  int runs = 0;

 private:
  Loop& loop_;
  std::move_only_function<JobEnd(const JobSpec&)> play_;
};

struct Node {
  explicit Node(std::move_only_function<JobEnd(const JobSpec&)> play)
      : jobs(loop, std::move(play)), publisher(loop, pool, jobs, folders(), kTarget) {
    REQUIRE(make_directories(dir.path() / "compiled").has_value());
    REQUIRE(make_directories(dir.path() / "tmp").has_value());
    REQUIRE(keep(blobs, "a model").has_value());
    request.label = "f";
    request.files = {{{"model.onnx", sha256_hex("a model"), 7}, &blobs}};
  }
  // The same key each time: that of the node.
  Publisher::Folders folders() const {
    std::array<std::byte, PrivateKey::kBytes> key{};
    key.back() = std::byte{7};
    return {.compiled = dir.path() / "compiled",
            .tmp = dir.path() / "tmp",
            .key = PrivateKey::create(key)};
  }
  Result<Path> start(Publisher& of, const Manifest& manifest) {
    return loop.run(of.compiled_for("f", manifest, pool));
  }
  std::size_t leftovers() const {
    return static_cast<std::size_t>(
        std::distance(std::filesystem::directory_iterator(dir.path() / "tmp"),
                      std::filesystem::directory_iterator()));
  }
  TempDir dir = *TempDir::create();
  SystemClock clock;
  FakeBlobStore blobs{clock};
  Loop loop;
  Pool pool{loop, "publish", 1};
  PlayedJobs jobs;
  Publisher publisher;
  PublishRequest request;
};

}  // namespace

TEST_CASE("the key follows what the compiled artifact depends on") {
  const std::vector<ArtifactFile> files = {{"m.onnx", std::string(64, 'a'), 1}};
  const VersionOptions options;
  const std::string key = compiled_key("default", files, options, kTarget);
  CHECK(key.starts_with(artifact_digest(files) + "-"));
  CHECK(key == compiled_key("default", files, options, kTarget));
  CHECK(key != compiled_key("default", files, options, {"1.32.0", kTarget.cpu}));
  CHECK(key != compiled_key("default", files, options, {kTarget.runtime, "x86_64"}));
  VersionOptions threads = options;
  threads.threads = 2;
  CHECK(key != compiled_key("default", files, threads, kTarget));
  // They decide which forms are tried.
  VersionOptions slower = options;
  slower.timeout = 1h;
  CHECK(key != compiled_key("default", files, slower, kTarget));
  VersionOptions roomier = options;
  roomier.publish_memory = gib(64);
  CHECK(key != compiled_key("default", files, roomier, kTarget));
  VersionOptions patient = options;
  patient.publish_timeout = 10h;
  CHECK(key == compiled_key("default", files, patient, kTarget));
}

TEST_CASE("a version that batches has a form of its own, whatever the largest batch") {
  const std::vector<ArtifactFile> files = {{"m.onnx", std::string(64, 'a'), 1}};
  const auto key = [&](Batching batching) {
    VersionOptions options;
    options.batching = std::move(batching);
    return compiled_key("default", files, options, kTarget);
  };
  const std::string batches =
      key({.mode = BatchMode::Auto, .max_rows = kLargestBatch, .preferred = {}});
  CHECK(batches != key({}));
  CHECK(batches == key({.mode = BatchMode::Fixed, .max_rows = 64, .preferred = {}}));
  CHECK(batches != key({.mode = BatchMode::Fixed, .max_rows = 2, .preferred = {}}));
}

TEST_CASE("what is compiled is of one project") {
  const std::vector<ArtifactFile> files = {{"m.onnx", std::string(64, 'a'), 1}};
  const std::string key = compiled_key("team", files, {}, kTarget);
  CHECK(key.starts_with(artifact_digest(files) + "-"));
  CHECK(key != compiled_key("default", files, {}, kTarget));
  CHECK(key != compiled_key("shop", files, {}, kTarget));
}

TEST_CASE("CPU features are those that code depends on, in a stable order") {
  CHECK(cpu_features("x86_64",
                     "processor : 0\nflags\t\t: fpu avx2 sse2 hypervisor avx512f\nbugs : x\n") ==
        "x86_64 avx2 avx512f sse2");
  CHECK(cpu_features("aarch64", "Features\t: fp asimd cpuid sve\n") == "aarch64 asimd fp sve");
  CHECK(cpu_features("riscv64", "") == "riscv64");
}

TEST_CASE("a publish ends in a compiled folder, and an equal artifact shares it") {
  Node node([](const JobSpec& spec) {
    CHECK(read_file(spec.source / "model.onnx").value() == "a model");
    leave_result(spec.work, sample_report());
    return JobEnd{};
  });
  std::string told;
  const auto first = node.loop.run(
      node.publisher.publish(node.request, [&](std::string_view step, std::string_view detail) {
        told += fmt::format("{} ({})", step, detail);
      }));
  REQUIRE_MESSAGE(first.has_value(), (first ? "" : first.error().message));
  CHECK(told == "optimise (onnx, all)");
  CHECK_FALSE(first->reused);
  CHECK(read_file(first->compiled / "model.onnx").value() == "bytes");
  struct stat status{};
  REQUIRE(::stat((first->compiled / "model.onnx").c_str(), &status) == 0);
  CHECK((status.st_mode & 0777) == 0444);
  CHECK(node.leftovers() == 0);
  const auto second = node.loop.run(node.publisher.publish(node.request, {}));
  REQUIRE(second.has_value());
  CHECK(second->reused);
  CHECK(second->manifest.signature == first->manifest.signature);
  CHECK(node.jobs.runs == 1);
  CHECK(node.loop.run(node.publisher.compiled_for("f", first->manifest, node.pool)).value() ==
        first->compiled);
}

TEST_CASE("a damaged compiled folder is made again, without a deploy") {
  Node node([](const JobSpec& spec) {
    leave_result(spec.work, sample_report());
    return JobEnd{};
  });
  const auto published = node.loop.run(node.publisher.publish(node.request, {}));
  REQUIRE(published.has_value());
  std::filesystem::remove(published->compiled / "model.onnx");
  put(published->compiled / "model.onnx", "BYTES");
  Publisher restarted(node.loop, node.pool, node.jobs, node.folders(), kTarget);
  CHECK(node.loop.run(restarted.compiled_for("f", published->manifest, node.pool)).error().code ==
        Code::NotFound);
  const auto rebuilt =
      node.loop.run(restarted.rebuilt_for("f", published->manifest, node.request.files));
  REQUIRE(rebuilt.has_value());
  CHECK(read_file(*rebuilt / "model.onnx").value() == "bytes");
  CHECK(node.jobs.runs == 2);
}

TEST_CASE("a start takes a form as it was sealed, by whichever process, and nothing else") {
  using Spoil = void (*)(const Path& form);
  struct Case {
    std::string what;
    Spoil spoil;
    bool taken;
  };
  const Case cases[] = {
      {"untouched", [](const Path&) {}, true},
      {"other bytes of the same size in another file",
       [](const Path& form) {
         std::filesystem::remove(form / "model.onnx");
         put(form / "model.onnx", "BYTES");
       },
       false},
      {"written in place",
       [](const Path& form) {
         std::filesystem::permissions(form / "model.onnx", std::filesystem::perms(0644));
         std::ofstream(form / "model.onnx") << "BYTES";
       },
       false},
      {"touched",
       [](const Path& form) {
         std::filesystem::last_write_time(form / "load.json", std::filesystem::file_time_type());
       },
       false},
      {"gone", [](const Path& form) { std::filesystem::remove(form / "load.json"); }, false},
      {"a link",
       [](const Path& form) {
         std::filesystem::rename(form / "load.json", form / "kept");
         std::filesystem::create_symlink("kept", form / "load.json");
       },
       false},
      {"no record", [](const Path& form) { std::filesystem::remove(form / "seal.json"); }, false},
      {"a record that was edited",
       [](const Path& form) {
         std::string text = read_file(form / "seal.json").value();
         text[40] = text[40] == 'A' ? 'B' : 'A';
         put(form / "seal.json", text);
       },
       false},
      {"the record of another node",
       [](const Path& form) {
         SystemRng rng;
         const FormSeals other(*PrivateKey::create(draw_private_key(rng)));
         REQUIRE(other.write(
             form.filename(), form,
             {{"model.onnx", sha256_hex("bytes"), 5}, {"load.json", sha256_hex("{}"), 2}}));
       },
       false},
      {"a copy",
       [](const Path& form) {
         const Path away = form.parent_path() / "away";
         std::filesystem::rename(form, away);
         std::filesystem::create_directory(form);
         std::filesystem::copy(away, form);
       },
       false},
  };
  for (const Case& c : cases) {
    CAPTURE(c.what);
    Node node([](const JobSpec& spec) {
      leave_result(spec.work, sample_report());
      return JobEnd{};
    });
    const auto published = node.loop.run(node.publisher.publish(node.request, {}));
    REQUIRE(published.has_value());
    c.spoil(published->compiled);
    Publisher restarted(node.loop, node.pool, node.jobs, node.folders(), kTarget);
    CHECK(node.start(restarted, published->manifest).has_value() == c.taken);
    CHECK(node.start(restarted, published->manifest).has_value() == c.taken);
    const auto rebuilt =
        node.loop.run(restarted.rebuilt_for("f", published->manifest, node.request.files));
    REQUIRE(rebuilt.has_value());
    CHECK(read_file(*rebuilt / "model.onnx").value() == "bytes");
    CHECK(node.jobs.runs == (c.taken ? 1 : 2));
  }
}

TEST_CASE("code is sealed with its folders: nothing is put beside it") {
  Node node([](const JobSpec& spec) {
    leave_result(spec.work, sample_report());
    return JobEnd{};
  });
  node.request.options.runtime = "python";
  node.request.settled = true;
  node.request.files[0].file.path = "code/handler.py";
  const auto published = node.loop.run(node.publisher.publish(node.request, {}));
  REQUIRE_MESSAGE(published.has_value(), (published ? "" : published.error().message));
  CHECK(node.start(node.publisher, published->manifest).has_value());
  put(published->compiled / "function/code/json.py", "evil");
  CHECK(node.start(node.publisher, published->manifest).error().code == Code::NotFound);
}

TEST_CASE("what a disk has lost is not compiled") {
  Node node([](const JobSpec&) { return JobEnd{}; });
  node.blobs.corrupt(sha256("a model"), "a MODEL");
  const auto published = node.loop.run(node.publisher.publish(node.request, {}));
  REQUIRE_FALSE(published.has_value());
  CHECK(published.error().reason == reason::kDigestMismatch);
  CHECK(published.error().message.contains("model.onnx"));
  CHECK(node.jobs.runs == 0);
}

TEST_CASE("a compiled folder that does not say what it is, is made again by the next deploy") {
  Node node([](const JobSpec& spec) {
    leave_result(spec.work, sample_report());
    return JobEnd{};
  });
  const auto published = node.loop.run(node.publisher.publish(node.request, {}));
  REQUIRE(published.has_value());
  std::filesystem::remove(published->compiled / "compiled.json");
  const auto again = node.loop.run(node.publisher.publish(node.request, {}));
  REQUIRE_MESSAGE(again.has_value(), (again ? "" : again.error().message));
  CHECK(node.jobs.runs == 2);
  CHECK(node.loop.run(node.publisher.compiled_for("f", again->manifest, node.pool)).has_value());
  CHECK(node.leftovers() == 0);
}

TEST_CASE("a job that ends badly costs its publish, with the step it was in") {
  const auto ended = [](Exit exit, bool timed_out) {
    JobEnd end;
    end.exit = exit;
    end.timed_out = timed_out;
    return end;
  };
  const std::pair<JobEnd, const char*> cases[] = {
      {ended({.signal = 9, .oom = true}, false), "ran out of memory"},
      {ended({.signal = 9}, true), "did not end within"},
      {ended({.signal = 11}, false), "killed by signal 11"},
      {ended({.code = 1}, false), "exit code 1"},
  };
  for (const auto& [end, words] : cases) {
    Node node([&end](const JobSpec&) { return end; });
    const auto published = node.loop.run(node.publisher.publish(node.request, {}));
    REQUIRE_FALSE(published.has_value());
    CHECK(published.error().reason == reason::kPublishFailed);
    CHECK(published.error().message.find(words) != std::string::npos);
    CHECK(published.error().message.find("in step 'optimise: onnx, all'") != std::string::npos);
    CHECK(node.leftovers() == 0);
  }
}

TEST_CASE("what a hostile job leaves is refused, and nothing of it is kept") {
  using Spoil = void (*)(const Path& work);
  const Spoil spoils[] = {
      [](const Path& work) { std::filesystem::remove(work / "report.json"); },
      [](const Path& work) {
        std::filesystem::remove(work / "report.json");
        std::filesystem::create_symlink("/etc/passwd", work / "report.json");
      },
      [](const Path& work) {
        std::filesystem::remove(work / "report.json");
        REQUIRE(::mkfifo((work / "report.json").c_str(), 0600) == 0);
      },
      [](const Path& work) { put(work / "report.json", std::string(kMaxReport + 1, ' ')); },
      [](const Path& work) { put(work / "out/model.onnx", "longer than told"); },
      [](const Path& work) {
        std::filesystem::remove(work / "out/model.onnx");
        std::filesystem::create_symlink("/etc/passwd", work / "out/model.onnx");
      },
      [](const Path& work) {
        std::filesystem::create_hard_link(work / "out/model.onnx", work / "kept");
      },
      [](const Path& work) {
        std::filesystem::remove(work / "out/model.onnx");
        REQUIRE(::mkfifo((work / "out/model.onnx").c_str(), 0600) == 0);
      },
      [](const Path& work) {
        std::filesystem::rename(work / "out", work / "elsewhere");
        std::filesystem::create_symlink("elsewhere", work / "out");
      },
  };
  for (const Spoil spoil : spoils) {
    Node node([spoil](const JobSpec& spec) {
      leave_result(spec.work, sample_report());
      spoil(spec.work);
      return JobEnd{};
    });
    CHECK_FALSE(node.loop.run(node.publisher.publish(node.request, {})).has_value());
    CHECK(std::filesystem::is_empty(node.dir.path() / "compiled"));
    CHECK(node.leftovers() == 0);
  }
}

TEST_CASE("a refusal comes through with its reason") {
  Node node([](const JobSpec& spec) {
    put(spec.work / "report.json", to_json(PublishOutcome(Refusal{"invalid_model", "a cycle"})));
    return JobEnd{};
  });
  const auto published = node.loop.run(node.publisher.publish(node.request, {}));
  REQUIRE_FALSE(published.has_value());
  CHECK(published.error().reason == reason::kInvalidModel);
  CHECK(published.error().message == "a cycle");
}

TEST_CASE("paths that leave the source folder are refused") {
  const TempDir dir = *TempDir::create();
  const SystemClock clock;
  FakeBlobStore blobs(clock);
  REQUIRE(keep(blobs, "x").has_value());
  const std::vector<SourceFile> files = {{{"../x", sha256_hex("x"), 1}, &blobs}};
  CHECK_FALSE(SourceFolder::create(dir.path(), files).has_value());
}
