#include "sandbox/jail_plan.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <bit>
#include <concepts>
#include <cstring>

namespace mayfly {
namespace {

static_assert(std::endian::native == std::endian::little);

constexpr std::string_view kMagic = "MJP5";
constexpr std::size_t kMaxMounts = 16;
constexpr std::size_t kMaxPath = 1024;
constexpr std::size_t kMaxTarget = 32;

std::unexpected<Error> bad_plan(std::string_view what) {
  return fail(Code::InvalidArgument, fmt::format("jail plan: {}", what));
}

bool is_target(std::string_view target) {
  return target.size() >= 2 && target.size() <= kMaxTarget && target[0] == '/' &&
         std::ranges::all_of(target.substr(1), [](char c) {
           return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
         });
}

bool is_source(std::string_view source) {
  return !source.empty() && source.size() <= kMaxPath && source[0] == '/' &&
         source.find('\0') == std::string_view::npos;
}

class Writer {
 public:
  template <std::integral T>
  void number(T value) {
    const auto* first = reinterpret_cast<const std::byte*>(&value);
    bytes_.insert(bytes_.end(), first, first + sizeof value);
  }
  void raw(std::string_view text) {
    const auto bytes = std::as_bytes(std::span(text));
    bytes_.insert(bytes_.end(), bytes.begin(), bytes.end());
  }
  void text(std::string_view text) {
    number(static_cast<std::uint16_t>(text.size()));
    raw(text);
  }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
};

class Reader {
 public:
  explicit Reader(std::span<const std::byte> bytes) : rest_(bytes) {}
  template <std::integral T>
  Result<T> number() {
    T value{};
    const std::span<const std::byte> bytes = TRY(take(sizeof value));
    std::memcpy(&value, bytes.data(), sizeof value);
    return value;
  }
  Result<std::string> raw(std::size_t size) {
    const std::span<const std::byte> bytes = TRY(take(size));
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  Result<std::string> text() { return raw(TRY(number<std::uint16_t>())); }
  bool at_end() const { return rest_.empty(); }

 private:
  Result<std::span<const std::byte>> take(std::size_t size) {
    if (size > rest_.size()) return bad_plan("the encoding ends early");
    const auto taken = rest_.first(size);
    rest_ = rest_.subspan(size);
    return taken;
  }
  std::span<const std::byte> rest_;
};

Result<JailMount> decode_mount(Reader& reader) {
  const auto access = TRY(reader.number<std::uint8_t>());
  if (access > static_cast<std::uint8_t>(Access::Programs)) return bad_plan("unknown access");
  std::string source = TRY(reader.text());
  std::string target = TRY(reader.text());
  return JailMount{.source = std::move(source),
                   .target = std::move(target),
                   .access = static_cast<Access>(access)};
}

}  // namespace

std::string_view to_string(Layer layer) {
  static constexpr std::array<std::string_view, kLayerCount> kNames = {
      "user namespace", "pid namespace", "mount namespace", "network namespace", "ipc namespace",
      "uts namespace",  "no_new_privs",  "undumpable",      "seccomp",           "landlock",
      "rlimits",        "capabilities",  "cgroup"};
  return kNames.at(static_cast<std::size_t>(layer));
}

std::string_view to_string(Profile profile) {
  static constexpr std::array<std::string_view, kProfileCount> kNames = {
      "template",        "instance",        "threaded instance", "publish",
      "python template", "python instance", "python publish",    "python build",
      "python training", "training group"};
  return kNames.at(static_cast<std::size_t>(profile));
}

bool is_python(Profile profile) {
  return profile == Profile::PythonTemplate || profile == Profile::PythonInstance ||
         profile == Profile::PythonPublish || starts_programs(profile) || has_loopback(profile);
}

bool starts_programs(Profile profile) {
  return profile == Profile::PythonBuild || profile == Profile::PythonTraining;
}

bool is_job(Profile profile) {
  return profile == Profile::Publish || profile == Profile::PythonPublish ||
         starts_programs(profile) || has_loopback(profile);
}

bool has_loopback(Profile profile) { return profile == Profile::TrainingGroup; }

IdMapping IdMapping::for_slot(std::uint32_t slot, std::uint32_t base) {
  if (::geteuid() != 0) return {.user = ::geteuid(), .group = ::getegid()};
  return {.user = base + slot, .group = base + slot};
}

JailPlan full_plan(Profile profile) {
  JailPlan plan;
  plan.profile = profile;
  // An interpreter opens files where a session has them mapped.
  if (is_python(profile)) plan.limits.open_files = 256;
  if (is_job(profile)) {
    // Publishing writes the compiled artifact; the largest models are tens of GiB.
    // A version has 64 threads at most.
    plan.limits = {.open_files = 256, .processes = 160, .file_bytes = std::uint64_t{64} << 30};
  }
  // Threads count, too: of each worker its own, and the library's that wait for the others.
  if (has_loopback(profile)) plan.limits.processes = 2048;
  return plan;
}

Status validate(const JailPlan& plan) {
  const bool is_template =
      plan.profile == Profile::Template || plan.profile == Profile::PythonTemplate;
  if (!is_template && !is_job(plan.profile))
    return bad_plan("a jail is made for a template or a job");
  const auto is_programs = [](const JailMount& mount) { return mount.access == Access::Programs; };
  if (!starts_programs(plan.profile) && std::ranges::any_of(plan.mounts, is_programs))
    return bad_plan("programs are for those who may start them");
  if (plan.ids.user == 0 || plan.ids.group == 0)
    return bad_plan("the host's root may not be mapped");
  if (plan.has_secrets && !is_python(plan.profile))
    return bad_plan("only code can be given secrets");
  if (plan.awaits_version && (plan.profile != Profile::PythonTemplate || plan.has_secrets))
    return bad_plan("only a template of Python awaits a version, and it has no secrets before");
  if (plan.mounts.size() > kMaxMounts) return bad_plan("too many mounts");
  for (auto mount = plan.mounts.begin(); mount != plan.mounts.end(); ++mount) {
    if (!is_target(mount->target)) return bad_plan("a mount's target must be like \"/artifact\"");
    if (!is_source(mount->source)) return bad_plan("a mount's source must be an absolute path");
    const auto same = [&](const JailMount& other) { return other.target == mount->target; };
    if (std::any_of(plan.mounts.begin(), mount, same)) return bad_plan("a mount's target repeats");
  }
  return {};
}

Result<std::vector<std::byte>> encode_plan(const JailPlan& plan) {
  TRY(validate(plan));
  Writer writer;
  writer.raw(kMagic);
  writer.number(static_cast<std::uint8_t>(plan.profile));
  writer.number(plan.ids.user);
  writer.number(plan.ids.group);
  writer.number(plan.limits.open_files);
  writer.number(plan.limits.processes);
  writer.number(plan.limits.file_bytes);
  writer.number(plan.limits.scratch_bytes);
  writer.number(static_cast<std::uint8_t>(plan.has_secrets ? 1 : 0));
  writer.number(static_cast<std::uint8_t>(plan.awaits_version ? 1 : 0));
  writer.number(static_cast<std::uint8_t>(plan.mounts.size()));
  for (const JailMount& mount : plan.mounts) {
    writer.number(static_cast<std::uint8_t>(mount.access));
    writer.text(mount.source);
    writer.text(mount.target);
  }
  return writer.take();
}

Result<JailPlan> decode_plan(std::span<const std::byte> bytes) {
  if (bytes.size() > kMaxEncodedPlan) return bad_plan("the encoding is too long");
  Reader reader(bytes);
  if (TRY(reader.raw(kMagic.size())) != kMagic) return bad_plan("not a plan of this version");
  JailPlan plan;
  const auto profile = TRY(reader.number<std::uint8_t>());
  if (profile >= kProfileCount) return bad_plan("unknown profile");
  plan.profile = static_cast<Profile>(profile);
  plan.ids.user = TRY(reader.number<uid_t>());
  plan.ids.group = TRY(reader.number<gid_t>());
  plan.limits.open_files = TRY(reader.number<std::uint64_t>());
  plan.limits.processes = TRY(reader.number<std::uint64_t>());
  plan.limits.file_bytes = TRY(reader.number<std::uint64_t>());
  plan.limits.scratch_bytes = TRY(reader.number<std::uint64_t>());
  const auto has_secrets = TRY(reader.number<std::uint8_t>());
  if (has_secrets > 1) return bad_plan("neither with secrets nor without");
  plan.has_secrets = has_secrets == 1;
  const auto awaits_version = TRY(reader.number<std::uint8_t>());
  if (awaits_version > 1) return bad_plan("neither with a version nor without");
  plan.awaits_version = awaits_version == 1;
  const auto mounts = TRY(reader.number<std::uint8_t>());
  for (unsigned i = 0; i < mounts; ++i) plan.mounts.push_back(TRY(decode_mount(reader)));
  if (!reader.at_end()) return bad_plan("bytes after the end");
  TRY(validate(plan));
  return plan;
}

}  // namespace mayfly
