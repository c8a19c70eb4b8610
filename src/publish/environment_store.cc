#include "publish/environment_store.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <utility>

#include "core/json_reader.h"
#include "core/python_version.h"
#include "core/reason.h"
#include "publish/taken_file.h"

namespace mayfly {
namespace {

constexpr std::string_view kRequirements = "requirements.txt";
constexpr std::string_view kProject = "pyproject.toml";
constexpr std::string_view kWheels = "wheels/";
constexpr std::string_view kBytecode = "__pycache__";

bool asks_for_packages(const ArtifactFile& file) {
  return file.path == kRequirements || file.path == kProject;
}

// Lists a tree that a jail wrote, as it becomes the server's own.
class Takeover {
 public:
  Status take(Fd folder) {
    return take_tree(std::move(folder), {}, [this](const TakenFile& file) -> Status {
      if (file.path.find(kBytecode) != std::string::npos) return {};
      lines_.push_back(fmt::format("{} {} {}\n", file.path, file.size, TRY(hash_file(file.file))));
      return {};
    });
  }

  // "path size sha256" lines, sorted.
  std::string digest(std::string_view project) {
    std::ranges::sort(lines_);
    utsname names{};
    std::string all = fmt::format("project {}\npython {}\n", project, kPythonVersion);
    if (::uname(&names) == 0) all += fmt::format("machine {}\n", names.machine);
    for (const std::string& line : lines_) all += line;
    return sha256_hex(all);
  }

 private:
  std::vector<std::string> lines_;
};

// Young again: garbage collection leaves alone what somebody is about to use.
Status touch(const Path& path) {
  if (::utimensat(AT_FDCWD, path.c_str(), nullptr, 0) != 0) return fail_errno(path.native());
  return {};
}

bool is_digest(std::string_view text) {
  return text.size() == 64 && text.find_first_not_of("0123456789abcdef") == std::string_view::npos;
}

}  // namespace

std::vector<ArtifactFile> requirement_files(const std::vector<ArtifactFile>& files) {
  std::vector<ArtifactFile> found;
  for (const ArtifactFile& file : files) {
    if (asks_for_packages(file) || file.path.starts_with(kWheels)) found.push_back(file);
  }
  return std::ranges::any_of(found, asks_for_packages) ? found : std::vector<ArtifactFile>();
}

std::string environment_request(std::string_view project,
                                const std::vector<ArtifactFile>& requirements) {
  utsname names{};
  (void)::uname(&names);
  return sha256_hex(fmt::format("{} {} python {} {}", project, artifact_digest(requirements),
                                kPythonVersion, names.machine));
}

bool EnvironmentStore::has(std::string_view digest) const {
  return is_digest(digest) && ::access(folder(digest).c_str(), F_OK) == 0;
}

Result<std::optional<Environment>> EnvironmentStore::find(const std::string& request) const {
  const auto text = read_file(root_ / "requests" / request);
  if (!text) return std::nullopt;
  const Json json = TRY(parse_json(*text, "environment"));
  Environment found;
  JsonReader reader(json, "environment", reason::kInvalidManifest);
  reader.text("digest", found.digest).text("lock", found.lock);
  TRY(reader.finish());
  if (!has(found.digest) || !touch(folder(found.digest))) return std::nullopt;
  return found;
}

Result<Environment> EnvironmentStore::install(const For& whom, const Path& installed,
                                              std::string lock) {
  Takeover takeover;
  Fd top = TRY(open_file(installed, O_RDONLY | O_DIRECTORY | O_NOFOLLOW));
  const Fd disk(::fcntl(top.get(), F_DUPFD_CLOEXEC, 0));
  TRY(takeover.take(std::move(top)));
  // Thousands of files: one call for all, before the name that vouches for them.
  if (::syncfs(disk.get()) != 0) return fail_errno("syncfs");
  Environment made{.digest = takeover.digest(whom.project), .lock = std::move(lock)};
  TRY(make_directories(root_ / "requests"));
  const Path target = folder(made.digest);
  if (::rename(installed.c_str(), target.c_str()) != 0) {
    if (errno != ENOTEMPTY && errno != EEXIST)
      return fail_errno(fmt::format("move to {}", target.native()));
    TRY(touch(target));
  }
  TRY(sync_directory(root_));
  const Json record{{"digest", made.digest}, {"lock", made.lock}};
  TRY(write_file_durably(root_ / "requests" / whom.request, record.dump()));
  return made;
}

}  // namespace mayfly
