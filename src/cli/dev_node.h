// A node of one's own for a while: `mayfly serve` as a child process that ends with its parent.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/file.h"
#include "base/result.h"
#include "cli/node_client.h"

namespace mayfly {

class DevNode {
 public:
  // Ready when it returns. Its words go to this terminal. An error when it did not start: it has
  // said why.
  static Result<DevNode> start(const Path& data, const std::string& listen);
  DevNode(DevNode&& other) noexcept;
  DevNode& operator=(DevNode&&) = delete;
  ~DevNode();  // ends it, and waits for it

  const std::string& url() const { return url_; }
  bool ended() const;  // by itself

 private:
  explicit DevNode(pid_t pid) : pid_(pid) {}
  Status wait_until_ready(const Path& data);
  pid_t pid_;  // 0: it was taken from me
  std::string url_;
};

}  // namespace mayfly
