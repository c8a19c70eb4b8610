// Real processes in a test: a loop, a spawner, and instances whose events are remembered.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "async/loop.h"
#include "base/file.h"
#include "sandbox/cgroup.h"
#include "sandbox/process_spawner.h"
#include "sandbox/spawner.h"

namespace mayfly {

// The folder this test's executable lies in, with mayfly-runner and scripted_runner beside it.
Path executable_folder();

// x: FP32 [1,2] → y: FP32 [1,2], a folder as publishing leaves it. Linear: Relu(x · [[1, 2], [3,
// 4]]). Random: normal deviates, without a seed.
struct TinyArtifact {
  enum class Model { Linear, Random };
  TempDir folder;
  std::shared_ptr<const Signature> signature;
  static TinyArtifact create(Model model = Model::Linear);
};

// x: UINT8 [-1] → y: UINT8 [-1]: what the scripted runner's instances take and give.
std::shared_ptr<const Signature> script_signature();

struct SeenInstance {
  std::unique_ptr<Instance> handle;
  bool started = false;
  std::vector<Result<Reply>> replies;
  std::vector<Reply> chunks;
  std::vector<PlacedCall> calls;
  std::optional<Exit> exit;
};

struct SeenTemplate {
  std::unique_ptr<Template> handle;
  std::optional<Result<TemplateReady>> ready;
  std::optional<Exit> lost;
};

class SpawnerRig {
 public:
  enum class Groups { None, Real };
  explicit SpawnerRig(const std::string& runner, Groups groups = Groups::None);
  ~SpawnerRig();
  SpawnerRig(const SpawnerRig&) = delete;
  SpawnerRig& operator=(const SpawnerRig&) = delete;

  ProcessSpawner& spawner() { return *spawner_; }
  // The machine limits memory by groups, and this process may use them.
  bool limits_memory() const;
  // Turns of the loop until the condition holds; false after a minute without.
  bool wait(const std::function<bool()>& condition);

  std::shared_ptr<SeenTemplate> start(const TemplateSpec& spec);
  std::shared_ptr<SeenInstance> fork(SeenTemplate& from);
  // One request, one answer. An Error also when the instance ended instead.
  Result<Reply> ask(SeenInstance& instance, RequestMemory request);
  Loop& loop() { return loop_; }
  std::vector<std::string>& log() { return log_; }

 private:
  SystemClock clock_;
  Loop loop_{clock_};
  RealCgroupFs fs_;
  std::optional<NodeCgroups> cgroups_;
  std::vector<std::string> log_;
  std::unique_ptr<ProcessSpawner> spawner_;
};

TemplateSpec tiny_spec(const TinyArtifact& artifact);
RequestMemory floats_request(float a, float b);
RequestMemory bytes_request(std::string_view bytes);
std::string bytes_of(const Reply& reply);
std::vector<float> floats_of(const Reply& reply);

// Processes descended from this one, zombies included, and its open descriptors.
std::vector<int> descendants();
std::size_t open_descriptors();

}  // namespace mayfly
