#include "sandbox/process_spawner.h"

#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <filesystem>
#include <utility>

namespace mayfly {
namespace {

// A label is for people; a control group's name is one path component.
std::string group_key(std::string_view label, std::uint64_t id) {
  std::string key(label.substr(0, 100));
  for (char& c : key) {
    const bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') ||
                       c == '@' || c == '-';
    if (!plain) c = '_';
  }
  return fmt::format("{}-{}", key, id);
}

// Honest work must never meet the quota: the kernel hands it out in slices, some of which lie idle
// on another core.
constexpr double kCpuMargin = 0.5;
// Deploys wait for predictions rather than the other way around.
constexpr std::uint32_t kJobWeight = 25;
constexpr Bytes kJobScratch = mib(64);  // of a job with Python

constexpr const char* kAptFolder = "/etc/apt";

bool is_folder(const Path& path) {
  std::error_code error;
  return std::filesystem::is_directory(path, error);
}

Profile profile_of(const JobSpec& spec) {
  if (spec.runtime == RuntimeKind::Onnx) return Profile::Publish;
  if (spec.loopback) return Profile::TrainingGroup;
  if (spec.tools == JobTools::Build || spec.tools == JobTools::Debian) return Profile::PythonBuild;
  return spec.tools == JobTools::Programs ? Profile::PythonTraining : Profile::PythonPublish;
}

VersionLimits job_limits(const JobSpec& spec) {
  return {.cpus = kCpuMargin + spec.threads,
          .cpu_weight = spec.idle ? 0 : kJobWeight,
          .guest = spec.idle,
          .template_memory = spec.memory};
}

class InstanceHandle final : public Instance {
 public:
  explicit InstanceHandle(std::shared_ptr<InstanceProcess> process)
      : process_(std::move(process)) {}
  ~InstanceHandle() override { process_->abandon(); }
  InstanceHandle(const InstanceHandle&) = delete;
  InstanceHandle& operator=(const InstanceHandle&) = delete;
  void run(RequestMemory request) override { process_->run(std::move(request)); }
  bool may_join(const RequestMemory& request) const override { return process_->may_join(request); }
  Replies collect() override { return process_->collect(); }
  std::vector<RequestMemory> take_back() override { return process_->take_back(); }
  void go_on() override { process_->go_on(); }
  void close_stream() override { process_->close_stream(); }
  void answer(PlacedCall answer) override { process_->answer(std::move(answer)); }
  void kill() override { process_->kill(); }
  Duration cpu() const override { return process_->cpu(); }
  Bytes peak_memory() const override { return process_->peak_memory(); }

 private:
  std::shared_ptr<InstanceProcess> process_;
};

class TemplateHandle final : public Template {
 public:
  explicit TemplateHandle(std::weak_ptr<TemplateJail> jail) : jail_(std::move(jail)) {}
  ~TemplateHandle() override {
    if (const auto jail = jail_.lock()) jail->evict();
  }
  TemplateHandle(const TemplateHandle&) = delete;
  TemplateHandle& operator=(const TemplateHandle&) = delete;
  Result<std::unique_ptr<Instance>> fork(InstanceEvents events) override {
    const auto jail = jail_.lock();
    if (!jail) return fail(Code::Unavailable, "the template is gone");
    return std::make_unique<InstanceHandle>(TRY(jail->fork(std::move(events))));
  }

 private:
  std::weak_ptr<TemplateJail> jail_;
};

JailMount artifact_mount(const TemplateSpec& spec) {
  return {.source = spec.artifact, .target = "/artifact", .access = Access::ReadOnly};
}

// An environment that was lost and installed again is another folder under the same path.
struct FolderId {
  dev_t device = 0;
  ino_t number = 0;
  bool operator==(const FolderId&) const = default;
  static Result<FolderId> of(const Path& folder) {
    struct stat status{};
    if (::stat(folder.c_str(), &status) != 0) return fail_errno(folder.native());
    return FolderId{.device = status.st_dev, .number = status.st_ino};
  }
};

class JobHandle final : public Job {
 public:
  explicit JobHandle(std::weak_ptr<JobJail> jail) : jail_(std::move(jail)) {}
  ~JobHandle() override {
    if (const auto jail = jail_.lock()) jail->abandon();
  }
  JobHandle(const JobHandle&) = delete;
  JobHandle& operator=(const JobHandle&) = delete;
  void kill() override {
    if (const auto jail = jail_.lock()) jail->kill();
  }
  void send(std::string_view text, Fd descriptor) override {
    if (const auto jail = jail_.lock()) jail->send(text, std::move(descriptor));
  }

 private:
  std::weak_ptr<JobJail> jail_;
};

}  // namespace

class EnvironmentHandle final : public EnvironmentTemplate {
 public:
  EnvironmentHandle(ProcessSpawner& spawner, const std::shared_ptr<TemplateJail>& jail,
                    FolderId folder)
      : spawner_(spawner), jail_(jail), folder_(folder) {}
  ~EnvironmentHandle() override {
    if (const auto jail = jail_.lock()) jail->evict();
  }
  EnvironmentHandle(const EnvironmentHandle&) = delete;
  EnvironmentHandle& operator=(const EnvironmentHandle&) = delete;
  Result<std::unique_ptr<Template>> give(TemplateSpec spec, TemplateEvents events) override {
    const auto jail = jail_.lock();
    const auto folder = FolderId::of(spec.environment);
    if (!jail || !folder || *folder != folder_)
      return fail(Code::Aborted, "the environment is gone");
    VersionLimits limits = spawner_.version_limits(spec);
    limits.processes = spawner_.options_.processes;
    TRY(TemplateJail::give(
        jail, spawner_.blank_,
        {.signature = std::move(spec.signature),
         .limits = {.max_reply = spawner_.options_.max_reply, .start_timeout = spec.start_timeout},
         .events = std::move(events),
         .fitting = {.label = spec.label,
                     .artifact = artifact_mount(spec),
                     .secrets = std::move(spec.secrets),
                     .limits = limits,
                     .on_log = spawner_.log_of(spec.label)}}));
    jail_.reset();
    return std::make_unique<TemplateHandle>(jail);
  }

 private:
  ProcessSpawner& spawner_;
  std::weak_ptr<TemplateJail> jail_;
  FolderId folder_;
};

ProcessSpawner::ProcessSpawner(Loop& loop, ProcessSpawnerOptions options)
    : loop_(loop), options_(std::move(options)), blank_(loop, options_.runner, log_of("runner")) {}

Result<std::unique_ptr<ProcessSpawner>> ProcessSpawner::create(Loop& loop,
                                                               ProcessSpawnerOptions options) {
  std::unique_ptr<ProcessSpawner> spawner(new ProcessSpawner(loop, std::move(options)));
  TRY(spawner->blank_.start());
  return spawner;
}

ProcessSpawner::~ProcessSpawner() {
  for (const auto& [id, jail] : templates_) jail->kill();
  for (const auto& [id, jail] : jobs_) jail->kill();
  blank_.stop();
  for (const auto& [id, jail] : templates_) jail->end_now();
  for (const auto& [id, jail] : jobs_) jail->end_now();
}

std::function<void(std::string_view)> ProcessSpawner::log_of(const std::string& label) const {
  return [this, label](std::string_view line) {
    if (options_.on_log) options_.on_log(label, line);
  };
}

JailProcess::Making ProcessSpawner::begin(std::string label, Profile profile) {
  std::uint32_t slot = 0;
  while (slots_.contains(slot)) ++slot;
  slots_.insert(slot);
  JailProcess::Making making;
  making.label = std::move(label);
  making.slot = slot;
  making.plan = full_plan(profile);
  making.plan.ids = IdMapping::for_slot(slot, options_.id_base);
  return making;
}

void ProcessSpawner::mount_python(JailPlan& plan, const Path& environment, Bytes scratch) const {
  const auto mount = [&plan](const Path& source, const char* target) {
    plan.mounts.push_back({.source = source, .target = target, .access = Access::Code});
  };
  mount(options_.python.runtime, "/runtime");
  mount(options_.python.library, "/python");
  mount(options_.python.libraries, "/lib");
  if (!environment.empty()) mount(environment, "/environment");
  // Packages of Debian find their files and libraries where they expect them.
  if (!environment.empty() && is_folder(environment / "usr")) mount(environment / "usr", "/usr");
  plan.limits.scratch_bytes = scratch.count;
  plan.limits.file_bytes = std::max(plan.limits.file_bytes, scratch.count);
}

void ProcessSpawner::mount_library(JailPlan& plan, const Path& folder) const {
  plan.mounts.push_back({.source = folder, .target = "/runtime", .access = Access::Code});
  plan.mounts.push_back(
      {.source = options_.python.libraries, .target = "/lib", .access = Access::Code});
}

void ProcessSpawner::mount_tools(JailPlan& plan, JobTools tools) const {
  const auto show = [&plan](const Path& source, const char* target) {
    plan.mounts.push_back({.source = source, .target = target, .access = Access::ReadOnly});
  };
  if (tools == JobTools::Install || tools == JobTools::Build || tools == JobTools::Debian) {
    show(options_.python.packages, "/pip");
    show(options_.python.certificates, "/certificates");
  }
  if (tools == JobTools::Debian && is_folder(kAptFolder)) show(kAptFolder, "/apt");
  if (!starts_programs(plan.profile)) return;
  // Of all that is code there may be programs, and all libraries where a program's loader looks.
  for (JailMount& mount : plan.mounts) {
    if (mount.target == "/lib") mount.source = "/lib";
    if (mount.access == Access::Code) mount.access = Access::Programs;
  }
  const auto mount = [&plan](const char* folder, const char* target) {
    if (is_folder(folder))
      plan.mounts.push_back({.source = folder, .target = target, .access = Access::Programs});
  };
  mount("/bin", "/bin");
  mount("/lib64", "/lib64");
  // A run's own /usr may be that of its packages; an interpreter finds its library beside itself.
  mount("/usr", tools == JobTools::Programs ? "/node" : "/usr");
}

Status ProcessSpawner::make_groups(JailProcess::Making& making, VersionLimits limits) {
  if (options_.cgroups == nullptr) return {};
  limits.processes = options_.processes;
  making.groups.emplace(
      TRY(options_.cgroups->make_version(group_key(making.label, next_id_), limits)));
  return {};
}

VersionLimits ProcessSpawner::version_limits(const TemplateSpec& spec) const {
  VersionLimits limits{.cpu_weight = spec.cpu_weight,
                       .instance_memory = spec.memory,
                       .template_memory = spec.template_memory};
  // A quota of every core would limit nothing and cost its accounting; there the groups' equal
  // weights keep versions apart.
  if (options_.cpus > 0) limits.cpus = kCpuMargin + std::max(options_.cpus, spec.threads);
  return limits;
}

Result<std::shared_ptr<TemplateJail>> ProcessSpawner::make_template(JailProcess::Making making,
                                                                    const VersionLimits& limits,
                                                                    TemplateParts parts) {
  const std::uint32_t slot = making.slot;
  const std::uint64_t id = next_id_;
  const std::string label = making.label;
  if (Status made = make_groups(making, limits); !made) {
    release(slot);
    return std::unexpected(std::move(made).error());
  }
  auto jail = std::make_shared<TemplateJail>(
      loop_, std::move(making), std::move(parts.signature),
      TemplateJail::Limits{.max_reply = options_.max_reply, .start_timeout = parts.start_timeout},
      std::move(parts.events), [this, id, slot] {
        release(slot);
        templates_.erase(id);
      });
  if (Status started = jail->start(blank_, log_of(label)); !started) {
    release(slot);
    return std::unexpected(std::move(started).error());
  }
  templates_.emplace(id, jail);
  ++next_id_;
  return jail;
}

Result<std::unique_ptr<Template>> ProcessSpawner::start_template(TemplateSpec spec,
                                                                 TemplateEvents events) {
  const bool python = spec.runtime == RuntimeKind::Python;
  JailProcess::Making making =
      begin(spec.label, python ? Profile::PythonTemplate : Profile::Template);
  making.plan.mounts.push_back(artifact_mount(spec));
  if (python) mount_python(making.plan, spec.environment, spec.scratch);
  making.session = spec.session_after_fork || spec.threads > 1 ? SessionTime::AfterFork
                                                               : SessionTime::BeforeFork;
  making.threads = spec.threads;
  making.secrets = std::move(spec.secrets);
  return std::make_unique<TemplateHandle>(
      TRY(make_template(std::move(making), version_limits(spec),
                        {std::move(spec.signature), spec.start_timeout, std::move(events)})));
}

Result<std::unique_ptr<EnvironmentTemplate>> ProcessSpawner::start_environment(
    EnvironmentSpec spec, TemplateEvents events) {
  const FolderId folder = TRY(FolderId::of(spec.environment));
  JailProcess::Making making = begin(spec.label, Profile::PythonTemplate);
  making.plan.awaits_version = true;
  mount_python(making.plan, spec.environment, spec.scratch);
  making.session = SessionTime::WhenGiven;
  making.threads = spec.threads;
  making.request = fmt::format("{}\n{}", spec.options, spec.imports);
  if (making.request.size() > kMaxJobRequest) {
    release(making.slot);
    return fail(Code::InvalidArgument, "the environment's variables and imports are too long");
  }
  VersionLimits limits{.cpu_weight = spec.cpu_weight, .template_memory = spec.template_memory};
  if (options_.cpus > 0) limits.cpus = kCpuMargin + std::max(options_.cpus, spec.threads);
  auto jail = TRY(
      make_template(std::move(making), limits, {nullptr, spec.start_timeout, std::move(events)}));
  return std::make_unique<EnvironmentHandle>(*this, jail, folder);
}

Result<std::unique_ptr<Job>> ProcessSpawner::run_job(JobSpec spec, JobEvents events) {
  if (spec.request.size() > kMaxJobRequest)
    return fail(Code::InvalidArgument, "the job's request is too long");
  const bool python = spec.runtime == RuntimeKind::Python;
  JailProcess::Making making = begin(spec.label, profile_of(spec));
  const std::uint32_t slot = making.slot;
  const std::uint64_t id = next_id_;
  making.plan.mounts.push_back(
      {.source = spec.source, .target = "/source", .access = Access::ReadOnly});
  making.plan.mounts.push_back(
      {.source = spec.work, .target = "/work", .access = Access::ReadWrite});
  if (!spec.data.empty())
    making.plan.mounts.push_back(
        {.source = spec.data, .target = "/data", .access = Access::ReadOnly});
  if (python) mount_python(making.plan, spec.environment, kJobScratch);
  if (spec.runtime == RuntimeKind::Tables) mount_library(making.plan, options_.tables);
  if (spec.runtime == RuntimeKind::Training) mount_library(making.plan, options_.training);
  mount_tools(making.plan, spec.tools);
  making.request = std::move(spec.request);
  if (spec.idle) {
    const bool by_group = options_.cgroups != nullptr && options_.cgroups->support().limits_cpu();
    making.idle = by_group ? IdleCpu::ByGroup : IdleCpu::ByScheduler;
  }
  making.secrets = std::move(spec.secrets);
  const bool owned = ::geteuid() != 0 ||
                     ::chown(spec.work.c_str(), making.plan.ids.user, making.plan.ids.group) == 0;
  Status made = owned ? make_groups(making, job_limits(spec))
                      : fail_errno(fmt::format("chown {}", spec.work.native()));
  if (!made) {
    release(slot);
    return std::unexpected(std::move(made).error());
  }
  const auto jail = std::make_shared<JobJail>(loop_, std::move(making),
                                              JobJail::Limits{spec.timeout, spec.max_messages},
                                              std::move(events), [this, id, slot] {
                                                release(slot);
                                                jobs_.erase(id);
                                              });
  if (Status started = jail->start(blank_, log_of(spec.label)); !started) {
    release(slot);
    return std::unexpected(std::move(started).error());
  }
  jobs_.emplace(id, jail);
  ++next_id_;
  return std::make_unique<JobHandle>(jail);
}

}  // namespace mayfly
