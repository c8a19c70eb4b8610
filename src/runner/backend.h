// What answers requests inside an instance: an ONNX session, a Python function. Made in the
// template (or in the instance, where it cannot be forked) and used by one thread.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "core/tensor.h"
#include "runner/call_port.h"
#include "sandbox/channel.h"

namespace mayfly {

struct RunResults {
  std::vector<OutputPlan> plans;  // one per output wanted
  // Every output already lies in the region, where this says. Otherwise copy_results puts them
  // somewhere.
  std::optional<OutputPlacement> in_place = {};
};

// What a trial or a warm-up takes of a stream, which may have no end.
inline constexpr int kTrialChunks = 16;

class Backend {
 public:
  virtual ~Backend() = default;

  virtual const Signature& signature() const = 0;

  // `memory`: where outputs may be computed in place, from `outputs_begin` on; empty: nowhere. The
  // results are valid until the next run. What the request is to blame for is an Error of reason
  // model_error or invalid_input; a fault of the code that runs has reason function_error. Where it
  // streams: the first chunk; null: there is none.
  virtual Result<const RunResults*> run(const RequestView& request, RequestSpan memory,
                                        std::uint64_t outputs_begin) = 0;
  // Lines of the user's code that the last function_error came through; empty: none are known.
  virtual std::string take_traceback() { return {}; }
  virtual Status copy_results(const OutputPlacement& placement, RequestSpan target) const = 0;
  // Frees what the last run allocated. Afterwards copy_results has nothing to copy.
  virtual void release_results() = 0;

  // Whether a run gives its results in chunks. Then next_chunk() has the one after the last, null
  // after all of them, until close_stream() says that no more are wanted.
  virtual bool streams() const { return false; }
  virtual Result<const RunResults*> next_chunk() { return nullptr; }
  virtual void close_stream() {}

  // In an instance: what a run may call other functions through. It outlives me.
  virtual void set_call_port(CallPort& /*port*/) {}

  // Around the clone of an instance, in the template; and in the instance before its first request.
  virtual void before_fork() {}
  virtual void after_fork_in_parent() {}
  virtual void after_fork_in_child() {}
};

}  // namespace mayfly
