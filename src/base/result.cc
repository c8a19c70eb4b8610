#include "base/result.h"

#include <fmt/format.h>

#include <cerrno>
#include <system_error>

namespace mayfly {
namespace {

Code code_of_errno(int error_number) {
  switch (error_number) {
    case ENOENT:
    case ESRCH:
      return Code::NotFound;
    case EEXIST:
      return Code::AlreadyExists;
    case EACCES:
    case EPERM:
    case EROFS:
      return Code::PermissionDenied;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
    case ENOMEM:
    case EMFILE:
    case ENFILE:
      return Code::ResourceExhausted;
    case EINVAL:
      return Code::InvalidArgument;
    case ENOSYS:
    case EOPNOTSUPP:
      return Code::Unimplemented;
    case ETIMEDOUT:
      return Code::DeadlineExceeded;
    case EPIPE:
    case ECONNRESET:
    case ECONNREFUSED:
      return Code::Unavailable;
    default:
      return Code::Internal;
  }
}

}  // namespace

std::string_view to_string(Code code) {
  switch (code) {
    case Code::Cancelled:
      return "cancelled";
    case Code::Unknown:
      return "unknown";
    case Code::InvalidArgument:
      return "invalid_argument";
    case Code::DeadlineExceeded:
      return "deadline_exceeded";
    case Code::NotFound:
      return "not_found";
    case Code::AlreadyExists:
      return "already_exists";
    case Code::PermissionDenied:
      return "permission_denied";
    case Code::ResourceExhausted:
      return "resource_exhausted";
    case Code::FailedPrecondition:
      return "failed_precondition";
    case Code::Aborted:
      return "aborted";
    case Code::OutOfRange:
      return "out_of_range";
    case Code::Unimplemented:
      return "unimplemented";
    case Code::Internal:
      return "internal";
    case Code::Unavailable:
      return "unavailable";
    case Code::DataLoss:
      return "data_loss";
    case Code::Unauthenticated:
      return "unauthenticated";
  }
  return "unknown";
}

Error Error::in(std::string_view context) const& { return Error(*this).in(context); }

Error Error::in(std::string_view context) && {
  message = fmt::format("{}: {}", context, message);
  return std::move(*this);
}

Error errno_error(std::string_view what, int error_number) {
  return Error{
      .code = code_of_errno(error_number),
      .message = fmt::format("{}: {}", what, std::system_category().message(error_number))};
}

std::unexpected<Error> fail_errno(std::string_view what) {
  return std::unexpected(errno_error(what, errno));
}

}  // namespace mayfly
