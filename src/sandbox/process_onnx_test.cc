// The whole way with the real runner and a real model: blank, template, instances.
#include <fmt/format.h>

#include <algorithm>
#include <filesystem>
#include <string>

#include "sandbox/process_handle.h"
#include "sandbox/testing/spawner_rig.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

std::string status_line(int pid, std::string_view key) {
  const std::string text = read_file(fmt::format("/proc/{}/status", pid)).value_or("");
  const std::size_t at = text.find(key);
  if (at == std::string::npos) return "";
  return text.substr(at, text.find('\n', at) - at);
}

std::vector<std::string> descriptors_of(int pid) {
  std::vector<std::string> all;
  for (const auto& entry : std::filesystem::directory_iterator(fmt::format("/proc/{}/fd", pid))) {
    std::error_code error;
    const std::string target = std::filesystem::read_symlink(entry.path(), error).native();
    all.push_back(entry.path().filename().native() + " " + target.substr(0, target.find(':')));
  }
  std::ranges::sort(all);
  return all;
}

}  // namespace

TEST_CASE("a template's fork answers, and answers again") {
  const TinyArtifact artifact = TinyArtifact::create();
  SpawnerRig rig("mayfly-runner");
  const auto model = rig.start(tiny_spec(artifact));
  REQUIRE(rig.wait([&] { return model->ready.has_value(); }));
  REQUIRE_MESSAGE(model->ready->has_value(), model->ready->error().message);
  CHECK((*model->ready)->private_bytes.count > 0);

  const auto instance = rig.fork(*model);
  for (int i = 1; i < 4; ++i) {
    const auto reply = rig.ask(*instance, floats_request(static_cast<float>(i), -1));
    REQUIRE_MESSAGE(reply.has_value(), reply.error().message);
    CHECK(floats_of(*reply) ==
          std::vector<float>{std::max(0.0F, static_cast<float>(i) - 3),
                             std::max(0.0F, 2.0F * static_cast<float>(i) - 4)});
  }
  CHECK(instance->started);
  CHECK(instance->handle->cpu() > Duration{});
  CHECK(instance->handle->peak_memory().count > 0);
}

TEST_CASE("a session built after the fork answers the same") {
  const TinyArtifact artifact = TinyArtifact::create();
  SpawnerRig rig("mayfly-runner");
  TemplateSpec spec = tiny_spec(artifact);
  spec.threads = 2;
  const auto model = rig.start(spec);
  REQUIRE(rig.wait([&] { return model->ready.has_value(); }));
  REQUIRE_MESSAGE(model->ready->has_value(), model->ready->error().message);
  const auto instance = rig.fork(*model);
  const auto reply = rig.ask(*instance, floats_request(5, 1));
  REQUIRE_MESSAGE(reply.has_value(), reply.error().message);
  CHECK(floats_of(*reply) == std::vector<float>{8, 14});
}

TEST_CASE("random operators differ from instance to instance, and from template to template") {
  const TinyArtifact artifact = TinyArtifact::create(TinyArtifact::Model::Random);
  SpawnerRig rig("mayfly-runner");
  TemplateSpec spec = tiny_spec(artifact);
  spec.session_after_fork = true;
  std::vector<std::vector<float>> seen;
  for (int i = 0; i < 2; ++i) {
    const auto model = rig.start(spec);
    REQUIRE(rig.wait([&] { return model->ready.has_value(); }));
    for (int j = 0; j < 2; ++j) {
      const auto instance = rig.fork(*model);
      const auto reply = rig.ask(*instance, floats_request(0, 0));
      REQUIRE_MESSAGE(reply.has_value(), reply.error().message);
      seen.push_back(floats_of(*reply));
    }
  }
  std::ranges::sort(seen);
  CHECK(std::ranges::adjacent_find(seen) == seen.end());
}

TEST_CASE("no process of the runner has a thread, a file or a socket that it should not have") {
  const TinyArtifact artifact = TinyArtifact::create();
  SpawnerRig rig("mayfly-runner");
  const auto model = rig.start(tiny_spec(artifact));
  REQUIRE(rig.wait([&] { return model->ready.has_value(); }));
  const auto instance = rig.fork(*model);
  REQUIRE(rig.ask(*instance, floats_request(1, 1)).has_value());
  // blank, jail init, template, instance
  const std::vector<int> family = descendants();
  REQUIRE(family.size() == 4);
  for (const int pid : family) CHECK(status_line(pid, "Threads:") == "Threads:\t1");
  const std::vector<std::string> worker = {"0 socket", "1 pipe", "2 pipe"};
  CHECK(descriptors_of(rig.spawner().blank_pid()) == worker);
  const std::vector<std::string> of_instance = {"1 pipe", "2 pipe", "3 socket"};
  const auto holding = [&](const std::vector<std::string>& wanted) {
    return std::ranges::count_if(family, [&](int pid) { return descriptors_of(pid) == wanted; });
  };
  // An instance may answer before its template has closed what it was given for it.
  CHECK(rig.wait([&] { return holding(worker) == 2; }));  // the blank and the template
  CHECK(holding(of_instance) == 1);
}

TEST_CASE("a thousand forks give the same answer") {
  const TinyArtifact artifact = TinyArtifact::create();
  SpawnerRig rig("mayfly-runner");
  const auto model = rig.start(tiny_spec(artifact));
  REQUIRE(rig.wait([&] { return model->ready.has_value(); }));
  const std::size_t before = open_descriptors();
  int equal = 0;
  for (int i = 0; i < 1000; ++i) {
    const auto instance = rig.fork(*model);
    const auto reply = rig.ask(*instance, floats_request(2, 3));
    equal += reply && floats_of(*reply) == std::vector<float>{11, 16} ? 1 : 0;
  }
  CHECK(equal == 1000);
  CHECK(rig.wait([&] { return descendants().size() == 3; }));
  CHECK(rig.wait([&] { return open_descriptors() <= before; }));
}

TEST_CASE("a model that cannot be loaded says why") {
  const TinyArtifact artifact = TinyArtifact::create();
  std::filesystem::resize_file(artifact.folder.path() / "model.onnx", 60);
  SpawnerRig rig("mayfly-runner");
  const auto model = rig.start(tiny_spec(artifact));
  REQUIRE(rig.wait([&] { return model->ready.has_value(); }));
  REQUIRE_FALSE(model->ready->has_value());
  CHECK(model->ready->error().message ==
        "Load model from model.onnx failed:Protobuf parsing failed.");
  CHECK(rig.wait([&] { return rig.spawner().jails() == 0; }));
}

TEST_CASE("nothing is left when the spawner ends") {
  const TinyArtifact artifact = TinyArtifact::create();
  {
    SpawnerRig rig("mayfly-runner", SpawnerRig::Groups::Real);
    const auto model = rig.start(tiny_spec(artifact));
    REQUIRE(rig.wait([&] { return model->ready.has_value(); }));
    REQUIRE_MESSAGE(model->ready->has_value(), model->ready->error().message);
    const auto instance = rig.fork(*model);
    REQUIRE(rig.ask(*instance, floats_request(1, 1)).has_value());
  }
  CHECK(descendants().empty());
}
