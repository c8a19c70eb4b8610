// A registry on a fresh database, and short ways to fill it.
#pragma once

#include <cstdlib>
#include <memory>
#include <string>
#include <utility>

#include "base/file.h"
#include "base/testing/fake_clock.h"
#include "registry/registry.h"

namespace mayfly {

inline FunctionName name_of(std::string_view text) { return FunctionName::parse(text).value(); }

// A manifest with one file whose bytes are `content`.
inline Manifest manifest_with(const std::string& content) {
  Manifest manifest;
  manifest.files = {{"model.onnx", to_string(sha256(content)), content.size()}};
  manifest.signature.inputs = {{"x", DataType::Fp32, {-1, 30}}};
  manifest.signature.outputs = {{"y", DataType::Fp32, {-1, 2}}};
  return manifest;
}

inline FunctionTable::Entry entry_named(std::string_view name,
                                        std::shared_ptr<const FunctionSettings> settings) {
  return std::make_shared<const FunctionEntry>(
      FunctionEntry{.name = name_of(name),
                    .current = {1},
                    .settings = std::move(settings),
                    .versions = {{{1}, std::make_shared<const VersionContent>()}}});
}

struct RegistryFixture {
  explicit RegistryFixture(const Path& parent = std::filesystem::temp_directory_path())
      : folder(TempDir::create(parent).value()) {
    reopen();
  }
  void reopen() {
    registry.reset();
    registry = Registry::open(database, clock).value();
  }
  // Safe on any thread: no assertions, which doctest wants on its own.
  std::uint32_t deploy(std::string_view name, const std::string& content) {
    const auto number = registry->deploy({.function = name_of(name),
                                          .manifest = manifest_with(content),
                                          .report = R"({"load_ms":3})"},
                                         alice);
    if (!number) std::abort();
    return number->value;
  }

  FakeClock clock;
  TempDir folder;
  Path database = folder.path() / "registry.db";
  Author alice{.who = "alice", .why = "because"};
  std::unique_ptr<Registry> registry;
};

}  // namespace mayfly
