// The control socket as the worker sees it, and the files that its requests lie in.
#pragma once

#include <chrono>
#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/file.h"
#include "base/result.h"
#include "runner/report/batch_job.h"

namespace mayfly {

class ServerLink {
 public:
  // The socket stays the caller's.
  static Result<ServerLink> open(int control_fd, const Path& work, std::uint32_t slots);

  // Writes the body into its slot's file, then asks.
  Status ask(const PredictMessage& message, std::string_view body);
  Status tell(const BatchProgress& progress);

  // The next message, and what the descriptor beside it holds. nullopt: there is none yet, after
  // at most so long. An error when the server is gone.
  struct Received {
    ServerMessage message;
    std::string body;
  };
  Result<std::optional<Received>> receive(std::chrono::milliseconds wait);

 private:
  ServerLink(int control_fd, std::vector<Fd> slots)
      : control_fd_(control_fd), slots_(std::move(slots)) {}

  int control_fd_;
  std::vector<Fd> slots_;
};

}  // namespace mayfly
