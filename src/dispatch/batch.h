// Several requests as one: their rows are laid behind one another for a model whose inputs and
// outputs begin with a batch dimension, and the reply is cut apart again. Pure; no state.
//
// Rows: the extent of the first dimension, which all inputs of a request share.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "core/tensor.h"
#include "sandbox/channel.h"
#include "sandbox/spawner.h"

namespace mayfly {

// 0: the request is not of rows (no inputs, a scalar, inputs of different extents, none at all, or
// bytes that the instance takes apart by itself).
std::uint64_t rows_of(const RequestLayout& layout);

// Whether both may be in one batch: the same inputs of the same types and, but for the rows, the
// same shapes, and the same outputs wanted. Both have rows.
bool alike(const RequestLayout& a, const RequestLayout& b);

// At least two, all alike; they stay as they are. `output_bytes`: of all, a hint.
Result<RequestMemory> join_requests(std::span<RequestMemory* const> members,
                                    std::uint64_t output_bytes);

// One reply for each of `rows`, in their order; they share the memory of the whole. nullopt: an
// output has not one row for each row of the inputs, so that nobody can tell whose is whose.
std::optional<std::vector<Reply>> divide(const Reply& whole, std::span<const std::uint64_t> rows);

}  // namespace mayfly
