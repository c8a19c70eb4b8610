#include "registry/gc.h"

#include <sys/stat.h>

#include <filesystem>
#include <optional>
#include <string_view>
#include <system_error>
#include <tuple>

#include "base/log.h"
#include "base/remove_tree.h"
#include "core/reason.h"
#include "store/storage_error.h"

namespace mayfly {
namespace {

constexpr std::size_t kDigestDigits = 64;

Bytes size_of_folder(const Path& folder) {
  Bytes size;
  std::error_code ignored;
  for (const auto& entry : std::filesystem::recursive_directory_iterator(folder, ignored)) {
    std::error_code gone;
    const auto bytes = entry.is_regular_file(gone) ? entry.file_size(gone) : 0;
    if (!gone) size.count += bytes;
  }
  return size;
}

std::optional<WallTime> modified(const Path& path) {
  struct stat status{};
  if (::stat(path.c_str(), &status) != 0) return std::nullopt;
  return WallTime(std::chrono::seconds(status.st_mtim.tv_sec) +
                  std::chrono::nanoseconds(status.st_mtim.tv_nsec));
}

class Collector {
 public:
  Collector(const GcScope& scope, const GcOptions& options, Sweep sweep)
      : scope_(scope), options_(options), sweep_(std::move(sweep)), now_(scope.clock.wall_now()) {}

  Result<GcReport> run() {
    report_.versions = scope_.registry.superseded_versions();
    if (!dry()) {
      const Author author{.who = "garbage collection", .why = "keep_versions"};
      report_.versions = TRY(scope_.registry.retire(report_.versions, author));
    }
    // After the fact: a version that was pointed at meanwhile has stayed, and needs its bytes.
    live_ = TRY(
        scope_.registry.live_content(dry() ? report_.versions : std::vector<FunctionVersion>{}));
    TRY(sweep_blobs());
    TRY(sweep_partials());
    TRY(sweep_compiled());
    TRY(sweep_environments());
    return std::move(report_);
  }

 private:
  bool dry() const { return options_.mode == GcMode::DryRun; }
  bool is_young(WallTime modified_at, Duration grace) const { return modified_at > now_ - grace; }

  // Whether it went, or would go.
  Result<bool> remove(const Digest& digest, const std::function<Status()>& how) {
    if (dry()) return !sweep_.is_pinned(digest);
    return sweep_.remove_unless_pinned(digest, how);
  }

  Status sweep_blobs() {
    std::vector<BlobInfo> dead;
    TRY(scope_.blobs.for_each([&](const BlobInfo& info) -> Status {
      const bool live = live_.blobs.contains(info.digest);
      const bool keep = live || is_young(info.modified, options_.grace);
      if (keep) ++report_.kept_blobs;
      if (keep && !live) ++report_.young_blobs;
      if (!keep) dead.push_back(info);
      return {};
    }));
    for (const BlobInfo& info : dead) {
      const bool gone = TRY(remove(info.digest, [&] { return scope_.blobs.remove(info.digest); }));
      if (!gone) {
        ++report_.kept_blobs;
        continue;
      }
      report_.freed.count += info.size;
      report_.blobs.push_back(info);
    }
    return {};
  }

  Status sweep_partials() {
    std::vector<BlobInfo> stale;
    TRY(scope_.blobs.for_each_partial([&](const BlobInfo& info) -> Status {
      if (!is_young(info.modified, options_.partial_grace)) stale.push_back(info);
      return {};
    }));
    for (const BlobInfo& info : stale) {
      const auto gone = remove(info.digest, [&] { return scope_.blobs.drop_partial(info.digest); });
      if (!gone && gone.error().reason == reason::kConflict) continue;  // it goes on right now
      if (!gone) return std::unexpected(gone.error());
      if (!*gone) continue;
      report_.freed.count += info.size;
      report_.partials.push_back(info);
    }
    return {};
  }

  bool is_usable(std::string_view name, const Digest& artifact) const {
    if (!live_.artifacts.contains(artifact)) return false;
    return options_.compiled_suffix.empty() ||
           name.substr(kDigestDigits) == options_.compiled_suffix;
  }

  Status sweep_compiled() {
    std::vector<Path> folders;
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(scope_.data.compiled(), error)) {
      folders.push_back(entry.path());
    }
    if (error) {
      return std::unexpected(errno_error(scope_.data.compiled().native(), error.value()));
    }
    for (const Path& folder : folders) TRY(consider_compiled(folder));
    return {};
  }

  // DIGEST/, and requests/, which tolerates what is gone.
  Status sweep_environments() {
    std::error_code error;
    std::vector<Path> folders;
    for (const auto& entry :
         std::filesystem::directory_iterator(scope_.data.environments(), error)) {
      if (entry.is_directory()) folders.push_back(entry.path());
    }
    if (error) return std::unexpected(errno_error("list the environments", error.value()));
    for (const Path& folder : folders) {
      const std::string name = folder.filename();
      const auto digest = parse_digest(name);
      const auto modified_at = modified(folder);
      if (!digest || live_.environments.contains(*digest)) continue;
      if (!modified_at || is_young(*modified_at, options_.grace)) continue;
      report_.freed.count += size_of_folder(folder).count;
      report_.compiled.push_back("environment-" + name);
      if (dry()) continue;
      const Path away = scope_.data.tmp() / ("environment-" + name);
      std::filesystem::rename(folder, away, error);
      if (error) return std::unexpected(errno_error(folder.native(), error.value()));
      std::ignore = remove_tree(away);
    }
    return {};
  }

  Status consider_compiled(const Path& folder) {
    const std::string name = folder.filename();
    const auto artifact = parse_digest(std::string_view(name).substr(0, kDigestDigits));
    const auto modified_at = modified(folder);
    if (!modified_at || is_young(*modified_at, options_.grace)) return {};
    if (artifact && is_usable(name, *artifact)) return {};
    const Bytes size = size_of_folder(folder);
    const Path away = scope_.data.tmp() / name;
    // Out of sight in one step, so that nobody ever sees half of it.
    const bool gone = TRY(remove(artifact.value_or(Digest{}), [&]() -> Status {
      std::error_code error;
      std::filesystem::rename(folder, away, error);
      if (error) return std::unexpected(errno_error(folder.native(), error.value()));
      return {};
    }));
    if (!gone) return {};
    if (!dry()) std::ignore = remove_tree(away);  // what stays in tmp goes with the next start
    report_.freed.count += size.count;
    report_.compiled.push_back(name);
    return {};
  }

  const GcScope& scope_;
  const GcOptions& options_;
  Sweep sweep_;
  const WallTime now_;
  LiveContent live_;
  GcReport report_;
};

}  // namespace

Result<GcReport> collect_garbage(const GcScope& scope, const GcOptions& options) {
  // The sweep begins before anything is marked: see Pins.
  Sweep sweep = TRY(scope.pins.begin_sweep());
  return Collector(scope, options, std::move(sweep)).run();
}

}  // namespace mayfly
