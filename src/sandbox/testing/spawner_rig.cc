#include "sandbox/testing/spawner_rig.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <sstream>

#include "async/timer.h"
#include "base/check.h"
#include "sandbox/cgroup_support.h"

namespace mayfly {
namespace {

// The bytes of an ONNX model: MatMul and Relu.
constexpr std::array<std::uint8_t, 119> kModel = {
    0x08, 0x08, 0x12, 0x00, 0x3a, 0x6b, 0x0a, 0x11, 0x0a, 0x01, 0x78, 0x0a, 0x01, 0x77, 0x12,
    0x01, 0x6d, 0x22, 0x06, 0x4d, 0x61, 0x74, 0x4d, 0x75, 0x6c, 0x0a, 0x0c, 0x0a, 0x01, 0x6d,
    0x12, 0x01, 0x79, 0x22, 0x04, 0x52, 0x65, 0x6c, 0x75, 0x12, 0x01, 0x67, 0x2a, 0x1b, 0x08,
    0x02, 0x08, 0x02, 0x10, 0x01, 0x22, 0x10, 0x00, 0x00, 0x80, 0x3f, 0x00, 0x00, 0x00, 0x40,
    0x00, 0x00, 0x40, 0x40, 0x00, 0x00, 0x80, 0x40, 0x42, 0x01, 0x77, 0x5a, 0x13, 0x0a, 0x01,
    0x78, 0x12, 0x0e, 0x0a, 0x0c, 0x08, 0x01, 0x12, 0x08, 0x0a, 0x02, 0x08, 0x01, 0x0a, 0x02,
    0x08, 0x02, 0x62, 0x13, 0x0a, 0x01, 0x79, 0x12, 0x0e, 0x0a, 0x0c, 0x08, 0x01, 0x12, 0x08,
    0x0a, 0x02, 0x08, 0x01, 0x0a, 0x02, 0x08, 0x02, 0x42, 0x04, 0x0a, 0x00, 0x10, 0x11};

// The same input and output, of one RandomNormalLike without a seed.
constexpr std::array<std::uint8_t, 83> kRandomModel = {
    0x08, 0x08, 0x12, 0x00, 0x3a, 0x47, 0x0a, 0x18, 0x0a, 0x01, 0x78, 0x12, 0x01, 0x79,
    0x22, 0x10, 0x52, 0x61, 0x6e, 0x64, 0x6f, 0x6d, 0x4e, 0x6f, 0x72, 0x6d, 0x61, 0x6c,
    0x4c, 0x69, 0x6b, 0x65, 0x12, 0x01, 0x67, 0x5a, 0x13, 0x0a, 0x01, 0x78, 0x12, 0x0e,
    0x0a, 0x0c, 0x08, 0x01, 0x12, 0x08, 0x0a, 0x02, 0x08, 0x01, 0x0a, 0x02, 0x08, 0x02,
    0x62, 0x13, 0x0a, 0x01, 0x79, 0x12, 0x0e, 0x0a, 0x0c, 0x08, 0x01, 0x12, 0x08, 0x0a,
    0x02, 0x08, 0x01, 0x0a, 0x02, 0x08, 0x02, 0x42, 0x04, 0x0a, 0x00, 0x10, 0x11};

constexpr std::string_view kLoad =
    R"({"format":1,"form":"onnx","model":"model.onnx","weights":"","prepack":false,"optimise":"none",)"
    R"("inputs":[{"name":"x","datatype":"FP32","shape":[1,2]}],)"
    R"("outputs":[{"name":"y","datatype":"FP32","shape":[1,2]}]})";

// The files of an artifact are read by the jail's own id.
void write_public(const Path& path, std::string_view bytes) {
  const Fd file = open_file(path, O_WRONLY | O_CREAT | O_TRUNC, 0644).value();
  const Status written = write_all(file.get(), bytes);
  CHECK(written.has_value());
}

void add_children(int pid, std::vector<int>& all) {
  const auto text = read_file(fmt::format("/proc/{0}/task/{0}/children", pid));
  if (!text) return;
  std::istringstream list(*text);
  for (int child = 0; list >> child;) {
    all.push_back(child);
    add_children(child, all);
  }
}

}  // namespace

Path executable_folder() { return std::filesystem::read_symlink("/proc/self/exe").parent_path(); }

TinyArtifact TinyArtifact::create(Model model) {
  const std::span<const std::uint8_t> bytes =
      model == Model::Linear ? std::span<const std::uint8_t>(kModel) : kRandomModel;
  TinyArtifact artifact{.folder = TempDir::create().value(), .signature = nullptr};
  std::filesystem::permissions(artifact.folder.path(), std::filesystem::perms(0755));
  write_public(artifact.folder.path() / "model.onnx",
               {reinterpret_cast<const char*>(bytes.data()), bytes.size()});
  write_public(artifact.folder.path() / "load.json", kLoad);
  artifact.signature = std::make_shared<const Signature>(Signature{
      .inputs = {{"x", DataType::Fp32, {1, 2}}}, .outputs = {{"y", DataType::Fp32, {1, 2}}}});
  return artifact;
}

std::shared_ptr<const Signature> script_signature() {
  return std::make_shared<const Signature>(Signature{.inputs = {{"x", DataType::Uint8, {-1}}},
                                                     .outputs = {{"y", DataType::Uint8, {-1}}}});
}

SpawnerRig::SpawnerRig(const std::string& runner, Groups groups) {
  if (groups == Groups::Real) {
    if (auto support = detect_cgroups(fs_)) {
      if (auto node = NodeCgroups::open(fs_, *support, fmt::format("test-{}", ::getpid()))) {
        cgroups_.emplace(std::move(*node));
      }
    }
  }
  ProcessSpawnerOptions options{.runner = executable_folder() / runner, .on_log = {}};
  if (cgroups_) options.cgroups = &*cgroups_;
  options.on_log = [this](std::string_view label, std::string_view line) {
    if (::getenv("MAYFLY_TEST_LOG") != nullptr) fmt::print(stderr, "{}: {}\n", label, line);
    log_.push_back(fmt::format("{}: {}", label, line));
  };
  spawner_ = ProcessSpawner::create(loop_, std::move(options)).value();
}

SpawnerRig::~SpawnerRig() = default;

bool SpawnerRig::limits_memory() const { return cgroups_ && cgroups_->support().limits_memory(); }

bool SpawnerRig::wait(const std::function<bool()>& condition) {
  bool late = false;
  Timer deadline(loop_, [&] {
    late = true;
    loop_.stop();
  });
  deadline.arm_in(std::chrono::minutes(1));
  // What other processes do may be no event of this loop.
  Timer look_again(loop_, [&] { look_again.arm_in(std::chrono::milliseconds(5)); });
  look_again.arm_in(std::chrono::milliseconds(5));
  TurnEnd after_each(loop_, [this] { loop_.stop(); });
  while (!condition() && !late) {
    // Every turn ends the run: the condition is looked at after each.
    after_each.request();
    loop_.run();
  }
  return condition();
}

std::shared_ptr<SeenTemplate> SpawnerRig::start(const TemplateSpec& spec) {
  auto seen = std::make_shared<SeenTemplate>();
  auto handle = spawner_->start_template(
      spec, {.on_ready = [seen](Result<TemplateReady> ready) { seen->ready = std::move(ready); },
             .on_lost = [seen](Exit exit) { seen->lost = exit; }});
  if (handle) {
    seen->handle = std::move(*handle);
  } else {
    seen->ready = std::unexpected(handle.error());
  }
  return seen;
}

std::shared_ptr<SeenInstance> SpawnerRig::fork(SeenTemplate& from) {
  auto seen = std::make_shared<SeenInstance>();
  SeenInstance* raw = seen.get();
  auto handle = from.handle->fork(
      {.on_started = [raw] { raw->started = true; },
       .on_replies =
           [raw](Replies replies) { std::ranges::move(replies, std::back_inserter(raw->replies)); },
       .on_chunk = [raw](Reply chunk) { raw->chunks.push_back(std::move(chunk)); },
       .on_call = [raw](PlacedCall call) { raw->calls.push_back(std::move(call)); },
       .on_exit = [raw](Exit exit) { raw->exit = exit; }});
  if (handle) seen->handle = std::move(*handle);
  return seen;
}

Result<Reply> SpawnerRig::ask(SeenInstance& instance, RequestMemory request) {
  const std::size_t before = instance.replies.size();
  instance.handle->run(std::move(request));
  if (!wait([&] { return instance.replies.size() > before || instance.exit; })) {
    return fail(Code::DeadlineExceeded, "no answer");
  }
  if (instance.replies.size() == before) return fail(Code::Unavailable, "the instance ended");
  return std::move(instance.replies.back());
}

TemplateSpec tiny_spec(const TinyArtifact& artifact) {
  TemplateSpec spec;
  spec.label = "tiny@1";
  spec.artifact = artifact.folder.path();
  spec.signature = artifact.signature;
  spec.memory = mib(256);
  spec.template_memory = mib(512);
  return spec;
}

RequestMemory floats_request(float a, float b) {
  auto layout =
      RequestLayout::plan({{.index = 0, .type = DataType::Fp32, .shape = {1, 2}, .bytes = 8}}, {0})
          .value();
  RequestMemory request = RequestMemory::allocate(std::move(layout), 64).value();
  const std::array values = {a, b};
  std::memcpy(request.input(0).data(), values.data(), sizeof values);
  return request;
}

RequestMemory bytes_request(std::string_view bytes) {
  InputPlan input{
      .index = 0, .type = DataType::Uint8, .shape = {static_cast<std::int64_t>(bytes.size())}};
  input.bytes = bytes.size();
  RequestMemory request =
      RequestMemory::allocate(RequestLayout::plan({std::move(input)}, {0}).value(), 64).value();
  std::memcpy(request.input(0).data(), bytes.data(), bytes.size());
  return request;
}

std::string bytes_of(const Reply& reply) {
  const auto bytes = reply.outputs.at(0).bytes;
  return {reinterpret_cast<const char*>(bytes.data()), bytes.size()};
}

std::vector<float> floats_of(const Reply& reply) {
  const auto bytes = reply.outputs.at(0).bytes;
  std::vector<float> values(bytes.size() / sizeof(float));
  std::memcpy(values.data(), bytes.data(), bytes.size());
  return values;
}

std::vector<int> descendants() {
  std::vector<int> all;
  add_children(::getpid(), all);
  return all;
}

std::size_t open_descriptors() {
  std::size_t count = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator("/proc/self/fd"))
    ++count;
  return count;
}

}  // namespace mayfly
