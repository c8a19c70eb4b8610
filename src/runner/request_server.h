// From a request in a region to its reply in it, whatever happens. Knows no sockets.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
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
  // Whether what was written last is a chunk, after which more may come: next() writes that as
  // serve() did the first, and that it was the last one when there is none. close(): none are
  // wanted.
  bool is_streaming() const { return streaming_; }
  std::uint64_t next(RequestSpan memory);
  void close(RequestSpan memory);
  // The reply cannot be handed over: says so instead.
  void give_up(RequestSpan memory, std::string_view why);
  void finish_in(RequestSpan slots, RequestSpan outputs);
  // Frees what the last request left. After the reply has gone out: nobody waits for it.
  void release() { backend_.release_results(); }

 private:
  // Puts pixels in the place of inputs that are encoded images.
  Status decode_images(RequestView& request);
  std::uint64_t write(RequestSpan memory, Result<const RunResults*> results);
  void complain(RequestSpan memory, const Error& error);
  void copy_to(RequestSpan slots, RequestSpan target, const OutputPlacement& placement);

  Backend& backend_;
  std::vector<std::vector<std::byte>> pixels_;  // of the request being run
  const RunResults* results_ = nullptr;
  bool streaming_ = false;
};

// Runs what a warm-up region holds, once: kWarmRuns are what it takes for caches and arena to
// settle. A model that refuses generated input is loaded all the same: its complaint is no failure.
inline constexpr int kWarmRuns = 3;
void warm_up(Backend& backend, RequestSpan memory);

}  // namespace mayfly
