// Arrow's statuses as ours.
#pragma once

#include <arrow/result.h>
#include <arrow/status.h>

#include <string_view>
#include <utility>

#include "base/result.h"

namespace mayfly {

// `what` failed. A file that makes no sense is invalid_input; memory and disks are the machine's.
Error arrow_error(const arrow::Status& status, std::string_view what);

inline Status from_arrow(const arrow::Status& status, std::string_view what) {
  if (status.ok()) return {};
  return std::unexpected(arrow_error(status, what));
}

template <typename T>
Result<T> from_arrow(arrow::Result<T> result, std::string_view what) {
  if (!result.ok()) return std::unexpected(arrow_error(result.status(), what));
  return std::move(result).ValueUnsafe();
}

}  // namespace mayfly
