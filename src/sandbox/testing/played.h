// A template of the scripted runner under test, and what is asked of its instances.
#pragma once

#include <fmt/format.h>

#include <filesystem>
#include <fstream>
#include <memory>
#include <string>
#include <string_view>

#include "base/file.h"
#include "sandbox/spawner.h"
#include "sandbox/testing/spawner_rig.h"

#include <doctest/doctest.h>

namespace mayfly {

// The artifact of a template that plays a part (runner/testing/scripted).
struct PlayScript {
  TempDir folder = TempDir::create().value();
  explicit PlayScript(const std::string& word = "serve") {
    std::filesystem::permissions(folder.path(), std::filesystem::perms(0755));
    std::ofstream(folder.path() / "script") << word;
    std::filesystem::permissions(folder.path() / "script", std::filesystem::perms(0644));
  }
  TemplateSpec spec() const {
    TemplateSpec made;
    made.label = "script@1";
    made.artifact = folder.path();
    made.signature = script_signature();
    made.memory = mib(64);
    made.template_memory = mib(128);
    return made;
  }
};

// A template that plays it, started.
struct Played {
  PlayScript script;
  SpawnerRig rig;
  std::shared_ptr<SeenTemplate> model;
  explicit Played(const std::string& word = "serve",
                  SpawnerRig::Groups groups = SpawnerRig::Groups::None)
      : script(word), rig("scripted_runner", groups), model(rig.start(script.spec())) {
    REQUIRE(rig.wait([this] { return model->ready.has_value(); }));
  }
  void require_ready() {
    REQUIRE_MESSAGE(model->ready->has_value(), model->ready->error().message);
  }
  std::string ask(SeenInstance& instance, std::string_view text) {
    const auto reply = rig.ask(instance, bytes_request(text));
    return reply ? bytes_of(*reply) : fmt::format("error {}", reply.error().reason);
  }
  Exit end_of(SeenInstance& instance) {
    REQUIRE(rig.wait([&] { return instance.exit.has_value(); }));
    return *instance.exit;
  }
};

}  // namespace mayfly
