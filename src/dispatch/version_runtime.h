// What dispatch must know of a version to run it: an immutable value made from its manifest,
// published by whoever reads the registry and shared by all calls of the version.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <vector>

#include "async/task.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/result.h"
#include "core/batching.h"
#include "core/manifest.h"
#include "core/secret.h"
#include "core/tensor.h"
#include "dispatch/policy.h"
#include "sandbox/spawner.h"

namespace mayfly {

// The registry's number of a function. Never reused: a name deleted and deployed again is another
// function, so that no process of the old one ever serves the new one.
struct FunctionId {
  std::uint64_t value = 0;
  auto operator<=>(const FunctionId&) const = default;
};

struct VersionKey {
  FunctionId function{};
  std::uint32_t version = 0;
  auto operator<=>(const VersionKey&) const = default;
};

struct FunctionIdHash {
  std::size_t operator()(const FunctionId& id) const {
    return std::hash<std::uint64_t>{}(id.value);
  }
};
struct VersionKeyHash {
  std::size_t operator()(const VersionKey& key) const {
    // Versions are few and small; the odd constant (2^64 / golden ratio) spreads them.
    return std::hash<std::uint64_t>{}(key.function.value + key.version * 0x9e37'79b9'7f4a'7c15U);
  }
};

// What the processes of one owner may hold together, and hold. Loop thread.
struct MemoryShare {
  Bytes limit{};  // 0: none
  Bytes used{};
};

struct VersionRuntime {
  VersionKey key{};
  std::string label{};  // "fraud@7": for people
  std::shared_ptr<const Signature> signature{};
  RuntimeKind kind = RuntimeKind::Onnx;
  Isolation isolation = Isolation::Instance;
  Rank rank = Rank::Caller;
  std::shared_ptr<MemoryShare> share{};  // null: nobody limits it
  Batching batching{};
  std::uint32_t threads = 1;
  bool session_after_fork = false;
  bool streams = false;  // its replies come in chunks
  bool calls = false;    // its function may call others
  Path environment{};    // Python packages; there once `artifact` has been asked for
  // What must be the same for an environment template to serve it: project, packages, variables and
  // all else that shapes its interpreter before it is loaded. Empty: it uses none.
  std::string environment_key{};
  std::string environment_options{};  // EnvironmentSpec::options
  // EnvironmentSpec::imports, as it was published. Called on the loop thread.
  std::function<Task<Result<std::string>>()> imports{};
  Bytes scratch{};                 // of /tmp, which the instances share; 0: there is none
  Bytes memory = mib(512);         // limit of one instance's private bytes
  Bytes template_memory = gib(4);  // limit of the template
  Duration start_timeout = std::chrono::seconds(60);
  // Measured while publishing; 0: unknown. Better figures replace them as processes are seen.
  Bytes instance_bytes{};
  Bytes template_bytes{};
  Duration build_time{};
  // The compiled folder, rebuilt first where it has been lost. Called on the loop thread.
  // It ends soon when the node drains.
  std::function<Task<Result<Path>>()> artifact{};
  // What its processes may know, read anew for each template. Null: nothing.
  std::vector<std::string> secret_names{};
  std::function<Task<Result<Secrets>>()> secrets{};
};

}  // namespace mayfly
