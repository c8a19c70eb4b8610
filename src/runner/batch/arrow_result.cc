#include "runner/batch/arrow_result.h"

#include <fmt/format.h>

#include "core/reason.h"

namespace mayfly {

Error arrow_error(const arrow::Status& status, std::string_view what) {
  const std::string message = fmt::format("{}: {}", what, status.message());
  if (status.IsOutOfMemory()) return refuse(reason::kOutOfMemory, message).error();
  if (status.IsIOError() && status.detail() != nullptr)
    return Error{Code::Internal, message, reason::kInternal};
  return refuse(reason::kInvalidInput, message).error();
}

}  // namespace mayfly
