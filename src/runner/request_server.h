// From a request in a region to its reply in it, whatever happens. Knows no sockets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

#include "base/result.h"
#include "runner/backend.h"
#include "sandbox/channel.h"

namespace mayfly {

class RequestServer {
 public:
  explicit RequestServer(Backend& backend) : backend_(backend) {}  // outlives me

  // 0: the reply, or the model's complaint, is written. Otherwise the outputs need a region of
  // their own of this many bytes, and wait for finish_in().
  std::uint64_t serve(RequestSpan memory);
  void finish_in(RequestSpan slots, RequestSpan outputs);
  // Frees what the last request left. After the reply has gone out: nobody waits for it.
  void release() { backend_.release_results(); }

 private:
  // Puts pixels in the place of inputs that are encoded images.
  Status decode_images(RequestView& request);
  void copy_to(RequestSpan slots, RequestSpan target, const OutputPlacement& placement);

  Backend& backend_;
  std::vector<std::vector<std::byte>> pixels_;  // of the request being run
  const RunResults* results_ = nullptr;
};

// Runs what a warm-up region holds, once: kWarmRuns are what it takes for caches and arena to
// settle. A model that refuses generated input is loaded all the same: its complaint is no failure.
inline constexpr int kWarmRuns = 3;
void warm_up(Backend& backend, RequestSpan memory);

}  // namespace mayfly
