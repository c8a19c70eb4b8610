#include "store/storage_error.h"

#include <cerrno>

#include "core/reason.h"

namespace mayfly {
namespace {

bool means_full(int error_number) {
  return error_number == ENOSPC || error_number == EDQUOT || error_number == EFBIG;
}

}  // namespace

Error storage_error(std::string_view what, int error_number) {
  Error error = errno_error(what, error_number);
  if (!means_full(error_number)) return error;
  return refuse(reason::kStorageFull, std::move(error.message)).error();
}

std::unexpected<Error> fail_storage(std::string_view what) {
  return std::unexpected(storage_error(what, errno));
}

Status as_storage(Status status) {
  if (status || status.error().code != Code::ResourceExhausted) return status;
  return refuse(reason::kStorageFull, std::move(status).error().message);
}

}  // namespace mayfly
