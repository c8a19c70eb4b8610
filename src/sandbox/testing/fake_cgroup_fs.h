// Control groups as a map from path to text. Groups hold processes that a test puts there; killing
// one takes it out, removing a group that holds one fails, as in the kernel.
#pragma once

#include <map>
#include <set>
#include <vector>

#include "sandbox/cgroup_fs.h"

namespace mayfly {

class FakeCgroupFs final : public CgroupFs {
 public:
  // Files that every new group below `place` is born with.
  void mount(const Path& place, std::map<std::string, std::string> files);
  void put(const Path& file, std::string text) { files_[file] = std::move(text); }
  void enter(const Path& group, pid_t pid) { processes_[group].insert(pid); }
  void forbid(const Path& place) { forbidden_.insert(place); }
  bool has_group(const Path& group) const { return groups_.contains(group); }
  std::size_t group_count() const { return groups_.size(); }
  std::string text(const Path& file) const;
  const std::vector<pid_t>& killed() const { return killed_; }

  Status make(const Path& group) override;
  Status remove(const Path& group) override;
  bool exists(const Path& path) override;
  Result<std::string> read(const Path& file) override;
  Status write(const Path& file, std::string_view text) override;
  Result<Fd> open_for_joining(const Path& group) override;
  std::vector<std::string> children(const Path& group) override;
  void kill(pid_t pid) override;
  void wait_briefly() override {}

 private:
  std::map<Path, std::map<std::string, std::string>> mounts_;
  std::set<Path> groups_;
  std::map<Path, std::string> files_;
  std::map<Path, std::set<pid_t>> processes_;
  std::set<Path> forbidden_;
  std::vector<pid_t> killed_;
};

}  // namespace mayfly
