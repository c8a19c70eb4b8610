#include "core/destination.h"

#include <fmt/format.h>

#include "core/names.h"
#include "core/printable.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::string_view kFunction = "function:";

}  // namespace

std::string Destination::host() const {
  if (is_function()) return shown();
  return fmt::format("{}://{}", url.tls ? "https" : "http", url.authority());
}

std::string Destination::shown() const {
  return is_function() ? fmt::format("{}{}", kFunction, function) : url.shown();
}

Result<Destination> parse_destination(std::string_view text) {
  Destination destination;
  if (text.starts_with("http")) {
    destination.url = TRY(parse_web_url(text));
    return destination;
  }
  if (!text.starts_with(kFunction)) {
    return refuse(reason::kInvalidSetting,
                  fmt::format("'{}' is neither a URL nor function:NAME", printable(text, 64)));
  }
  const std::string_view function = text.substr(kFunction.size());
  const auto name = FunctionName::parse(function);
  if (function.contains('/')) {
    return refuse(reason::kInvalidSetting,
                  fmt::format("'{}' names a project: a function tells only "
                              "functions of its own",
                              printable(text, 80)));
  }
  if (!name) {
    return refuse(reason::kInvalidSetting,
                  fmt::format("'{}': {}", printable(text, 80), name.error().message));
  }
  destination.function = name->str();
  return destination;
}

}  // namespace mayfly
