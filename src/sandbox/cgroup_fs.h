// The door to the control-group file systems: files and folders, nothing more, so that a fake can
// stand in (testing/fake_cgroup_fs.h). Paths are absolute. No call blocks for longer than the
// kernel takes.
#pragma once

#include <sys/types.h>

#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/file.h"
#include "base/result.h"

namespace mayfly {

class CgroupFs {
 public:
  virtual ~CgroupFs() = default;
  virtual Status make(const Path& group) = 0;  // one that exists is fine
  virtual Status remove(
      const Path& group) = 0;  // an error while a process or a child group is left
  virtual bool exists(const Path& path) = 0;
  virtual Result<std::string> read(const Path& file) = 0;
  virtual Status write(const Path& file, std::string_view text) = 0;
  // The file by which a process of one thread joins the group, by writing "0" itself.
  virtual Result<Fd> open_for_joining(const Path& group) = 0;
  virtual std::vector<std::string> children(const Path& group) = 0;  // none when there is no group
  virtual void kill(pid_t pid) = 0;                                  // SIGKILL
  virtual void wait_briefly() = 0;                                   // for killed processes to go
};

class RealCgroupFs final : public CgroupFs {
 public:
  Status make(const Path& group) override;
  Status remove(const Path& group) override;
  bool exists(const Path& path) override;
  Result<std::string> read(const Path& file) override;
  Status write(const Path& file, std::string_view text) override;
  Result<Fd> open_for_joining(const Path& group) override;
  std::vector<std::string> children(const Path& group) override;
  void kill(pid_t pid) override;
  void wait_briefly() override;
};

}  // namespace mayfly
