// Structured logs: one line per event on stderr, as text for people or JSON for machines.
//   LOG(info, "instance started", {"function", name}, {"pid", pid});
// Use names, not sentences, for the fields. Never log and return the same error.
#pragma once

#include <fmt/format.h>

#include <initializer_list>
#include <string>
#include <string_view>

namespace mayfly {

enum class LogLevel { debug, info, warn, error };
enum class LogFormat { Text, Json };

struct LogField {
  std::string_view key;
  std::string value;

  template <typename T>
  LogField(std::string_view name, const T& what) : key(name), value(fmt::format("{}", what)) {}
};

void configure_log(LogLevel level, LogFormat format);
bool log_enabled(LogLevel level);
void log_event(LogLevel level, std::string_view event, std::initializer_list<LogField> fields);

}  // namespace mayfly

#define LOG(level, event, ...)                                              \
  do {                                                                      \
    if (::mayfly::log_enabled(::mayfly::LogLevel::level))                   \
      ::mayfly::log_event(::mayfly::LogLevel::level, event, {__VA_ARGS__}); \
  } while (false)
