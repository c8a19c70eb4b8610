#include "publish/environment_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <sys/utsname.h>
#include <unistd.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <cstdio>
#include <memory>
#include <utility>

#include "core/json_reader.h"
#include "core/python_version.h"
#include "core/reason.h"
#include "publish/taken_file.h"

namespace mayfly {
namespace {

constexpr int kMaxDepth = 48;
constexpr std::size_t kMaxEntries = 200'000;
constexpr std::uint64_t kMaxBytes = std::uint64_t{16} << 30;
constexpr std::string_view kRequirements = "requirements.txt";
constexpr std::string_view kProject = "pyproject.toml";
constexpr std::string_view kWheels = "wheels/";
constexpr std::string_view kBytecode = "__pycache__";

bool asks_for_packages(const ArtifactFile& file) {
  return file.path == kRequirements || file.path == kProject;
}

std::unexpected<Error> bad_entry(std::string_view path, std::string_view why) {
  return refuse(reason::kPublishFailed, fmt::format("environment: '{}' {}", path, why));
}

struct CloseFolder {
  void operator()(DIR* folder) const { ::closedir(folder); }
};

// Makes a tree that a jail wrote the server's own, one entry at a time through descriptors: nothing
// is reached by a name that a link could turn elsewhere.
class Takeover {
 public:
  Status take(Fd folder, const std::string& path, int depth) {
    if (depth > kMaxDepth) return bad_entry(path, "lies too deep");
    TRY(own_file(folder.get(), 0755));
    const int number = folder.get();
    const std::unique_ptr<DIR, CloseFolder> entries(::fdopendir(number));
    if (entries == nullptr) return fail_errno(path);
    (void)folder.release();  // closed with `entries`
    while (const dirent* entry = ::readdir(entries.get())) {
      const std::string_view name = entry->d_name;
      if (name == "." || name == "..") continue;
      if (++entries_ > kMaxEntries) return bad_entry(path, "is one file too many");
      TRY(take_entry(number, entry->d_name,
                     path.empty() ? std::string(name) : path + "/" + entry->d_name, depth));
    }
    return {};
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
  Status take_entry(int folder, const char* name, const std::string& path, int depth) {
    TRY(check_artifact_path(path));
    Fd file(::openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK));
    if (!file) return bad_entry(path, "cannot be opened, or is a link");
    struct stat status{};
    if (::fstat(file.get(), &status) != 0) return fail_errno(path);
    if (S_ISDIR(status.st_mode)) return take(std::move(file), path, depth + 1);
    if (!S_ISREG(status.st_mode) || status.st_nlink != 1)
      return bad_entry(path, "is not a plain file of its own");
    bytes_ += static_cast<std::uint64_t>(status.st_size);
    if (bytes_ > kMaxBytes) return bad_entry(path, "is one byte too many (16 GiB)");
    TRY(own_file(file.get(), 0444));
    if (path.find(kBytecode) != std::string::npos) return {};
    lines_.push_back(fmt::format("{} {} {}\n", path, status.st_size, TRY(hash_file(file.get()))));
    return {};
  }

  std::vector<std::string> lines_;
  std::size_t entries_ = 0;
  std::uint64_t bytes_ = 0;
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
  TRY(takeover.take(std::move(top), {}, 0));
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
