// One error type for the whole project. An expected failure is a value: `Result<T>` holds a T or an
// Error; a programmer's error is CHECK. Normal absence is std::optional.
#pragma once

#include <cstdint>
#include <expected>
#include <string>
#include <string_view>
#include <utility>

namespace mayfly {

// The canonical codes of gRPC, with its meanings (google/rpc/code.proto). One switch each maps them
// to HTTP, to gRPC and to exit codes.
enum class Code : std::uint8_t {
  Cancelled = 1,
  Unknown = 2,
  InvalidArgument = 3,
  DeadlineExceeded = 4,
  NotFound = 5,
  AlreadyExists = 6,
  PermissionDenied = 7,
  ResourceExhausted = 8,
  FailedPrecondition = 9,
  Aborted = 10,
  OutOfRange = 11,
  Unimplemented = 12,
  Internal = 13,
  Unavailable = 14,
  DataLoss = 15,
  Unauthenticated = 16,
};

std::string_view to_string(Code code);

// `message` is one sentence for a person: what, where, what to do. `reason` is a stable slug for
// programs, from the catalogue in core/reason.h; it always points to static storage and may be
// empty.
struct [[nodiscard]] Error {
  Code code = Code::Unknown;
  std::string message;
  std::string_view reason = {};

  // The same error seen from one layer further out: "load fraud@7: no such file".
  Error in(std::string_view context) const&;
  Error in(std::string_view context) &&;
};

template <typename T>
using Result = std::expected<T, Error>;
using Status = Result<void>;

inline std::unexpected<Error> fail(Code code, std::string message, std::string_view reason = {}) {
  return std::unexpected(Error{code, std::move(message), reason});
}

// The error of a failed system call: the text and code for `error_number` after `what`.
Error errno_error(std::string_view what, int error_number);
std::unexpected<Error> fail_errno(std::string_view what);

}  // namespace mayfly

// TRY(expr) is the value of a Result, or returns its error from the enclosing function. Use it only
// as a whole initialiser or statement. In coroutines, where a statement expression may not suspend,
// use CO_TRY(declaration, expr); or, for a Status, CO_TRY_STATUS(expr);
#define TRY(...)                                                                          \
  __extension__({                                                                         \
    auto&& try_result_ = (__VA_ARGS__);                                                   \
    if (!try_result_.has_value()) return std::unexpected(std::move(try_result_).error()); \
    *std::move(try_result_);                                                              \
  })

#define MAYFLY_CONCAT_INNER(a, b) a##b
#define MAYFLY_CONCAT(a, b) MAYFLY_CONCAT_INNER(a, b)
#define CO_TRY_INNER(temporary, declaration, ...)                                      \
  auto temporary = __VA_ARGS__;                                                        \
  if (!temporary.has_value()) co_return std::unexpected(std::move(temporary).error()); \
  declaration = *std::move(temporary)
#define CO_TRY(declaration, ...) \
  CO_TRY_INNER(MAYFLY_CONCAT(co_try_, __COUNTER__), declaration, __VA_ARGS__)
#define CO_TRY_STATUS_INNER(temporary, ...) \
  auto temporary = __VA_ARGS__;             \
  if (!temporary.has_value()) co_return std::unexpected(std::move(temporary).error())
#define CO_TRY_STATUS(...) CO_TRY_STATUS_INNER(MAYFLY_CONCAT(co_try_, __COUNTER__), __VA_ARGS__)
