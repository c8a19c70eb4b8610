// Whether a tensor's first dimension stands for rows: it is free, so that requests may bring any
// number of them.
#pragma once

#include "core/tensor.h"

namespace mayfly {

inline bool begins_with_rows(const TensorSpec& spec) {
  return !spec.shape.empty() && spec.shape.front() == -1;
}

}  // namespace mayfly
