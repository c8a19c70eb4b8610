// Tensors of one request that lie in its client's shared memory, or are to be laid there.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "core/wire/infer_reply.h"
#include "core/wire/infer_request.h"
#include "sandbox/spawner.h"
#include "serving/body_budget.h"
#include "serving/client_memory.h"

namespace mayfly {

class SharedTensors {
 public:
  SharedTensors() = default;  // none

  // Every range is checked before anything is allocated for it. invalid_input; unsupported: shared
  // memory is off.
  static Result<SharedTensors> find(const ClientMemory& memory, std::string_view project,
                                    const InferRequest& request, const Signature& signature);

  std::uint64_t input_bytes() const { return input_bytes_; }
  // Their copies count like a body, beside `others` bytes of the request: node_busy.
  Status hold(BodyBudget::Hold& held, std::uint64_t others) const;
  bool has_outputs() const { return has_outputs_; }

  // Copies the inputs to where they are run from, and looks into them. Any thread.
  Status read(const InferRequest& request, RequestMemory& memory) const;
  // Copies the outputs to where they were asked for. invalid_input: one is larger than that. Any
  // thread.
  Status write(std::span<const ReplyTensor> tensors) const;

 private:
  std::vector<ClientRegionRef> inputs_;   // of the request, by its order; null: not shared
  std::vector<ClientRegionRef> outputs_;  // the same
  std::uint64_t input_bytes_ = 0;
  bool has_outputs_ = false;
};

}  // namespace mayfly
