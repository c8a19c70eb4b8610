#include "sandbox/testing/fake_cgroup_fs.h"

#include <fcntl.h>
#include <fmt/format.h>

namespace mayfly {
namespace {
bool lies_below(const Path& path, const Path& place) {
  return path == place || path.native().starts_with(place.native() + "/");
}
}  // namespace

void FakeCgroupFs::mount(const Path& place, std::map<std::string, std::string> files) {
  mounts_[place] = std::move(files);
  std::ignore = make(place);
}

std::string FakeCgroupFs::text(const Path& file) const {
  const auto found = files_.find(file);
  return found == files_.end() ? "" : found->second;
}

Status FakeCgroupFs::make(const Path& group) {
  if (forbidden_.contains(group.parent_path())) return fail(Code::PermissionDenied, "forbidden");
  if (!groups_.insert(group).second) return {};
  for (const auto& [place, files] : mounts_) {
    if (!lies_below(group, place)) continue;
    for (const auto& [name, text] : files) files_[group / name] = text;
  }
  return {};
}

Status FakeCgroupFs::remove(const Path& group) {
  if (!groups_.contains(group)) return {};
  if (!processes_[group].empty() || !children(group).empty()) {
    return fail(Code::Internal, fmt::format("{} is busy", group.native()));
  }
  groups_.erase(group);
  std::erase_if(files_, [&](const auto& file) { return file.first.parent_path() == group; });
  return {};
}

bool FakeCgroupFs::exists(const Path& path) {
  return groups_.contains(path) || files_.contains(path);
}

Result<std::string> FakeCgroupFs::read(const Path& file) {
  if (file.filename() == "cgroup.procs") {
    std::string pids;
    for (const pid_t pid : processes_[file.parent_path()]) pids += fmt::format("{}\n", pid);
    return pids;
  }
  const auto found = files_.find(file);
  if (found == files_.end()) return fail(Code::NotFound, file.native());
  return found->second;
}

Status FakeCgroupFs::write(const Path& file, std::string_view text) {
  const Path group = file.parent_path();
  if (file.filename() == "cgroup.procs") {
    const pid_t pid = std::stoi(std::string(text));
    for (auto& [other, pids] : processes_) pids.erase(pid);
    processes_[group].insert(pid);
    return {};
  }
  // A v2 group hands controllers down only while it holds no process.
  if (file.filename() == "cgroup.subtree_control" && !processes_[group].empty()) {
    return fail(Code::Internal, "busy");
  }
  if (!files_.contains(file)) return fail(Code::NotFound, file.native());
  files_[file] = text;
  return {};
}

Result<Fd> FakeCgroupFs::open_for_joining(const Path&) { return open_file("/dev/null", O_WRONLY); }

std::vector<std::string> FakeCgroupFs::children(const Path& group) {
  std::vector<std::string> names;
  for (const Path& other : groups_) {
    if (other != group && other.parent_path() == group) names.push_back(other.filename());
  }
  return names;
}

void FakeCgroupFs::kill(pid_t pid) {
  killed_.push_back(pid);
  for (auto& [group, pids] : processes_) pids.erase(pid);
}

}  // namespace mayfly
