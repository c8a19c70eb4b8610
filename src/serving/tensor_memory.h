// Between requests and replies as the front doors speak them (core/wire) and the memory in which
// instances find and leave tensors (sandbox/channel.h).
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "base/result.h"
#include "core/wire/classification.h"
#include "core/wire/infer_reply.h"
#include "core/wire/infer_request.h"
#include "sandbox/channel.h"
#include "sandbox/spawner.h"

namespace mayfly {

// Room for the request's inputs, in its order. `output_bytes` is a hint.
Result<RequestMemory> allocate_request(const InferRequest& request, std::uint64_t output_bytes);

// Whether making ReplyTensors takes long enough to belong on a pool: classes are sorted.
bool sorts_much(const InferRequest& request, const Reply& reply);

// A reply's outputs as they were asked for: the instance's own memory, but for outputs that were to
// be classified. All that is given outlives me.
class ReplyTensors {
 public:
  ReplyTensors(const InferRequest& request, const Signature& signature, const Reply& reply);
  std::span<const ReplyTensor> tensors() const { return tensors_; }
  // The classified outputs, for who sends them from where they lie.
  std::vector<Classified> take_classified() && { return std::move(classified_); }

 private:
  std::vector<ReplyTensor> tensors_;
  std::vector<Classified> classified_;
};

}  // namespace mayfly
