#include "base/log.h"

#include <spdlog/sinks/stdout_sinks.h>
#include <spdlog/spdlog.h>

#include <memory>
#include <nlohmann/json.hpp>

namespace mayfly {
namespace {

spdlog::level::level_enum spdlog_level(LogLevel level) {
  switch (level) {
    case LogLevel::debug:
      return spdlog::level::debug;
    case LogLevel::info:
      return spdlog::level::info;
    case LogLevel::warn:
      return spdlog::level::warn;
    case LogLevel::error:
      return spdlog::level::err;
  }
  return spdlog::level::info;
}

struct State {
  std::shared_ptr<spdlog::logger> logger =
      std::make_shared<spdlog::logger>("mayfly", std::make_shared<spdlog::sinks::stderr_sink_mt>());
  LogFormat format = LogFormat::Text;
};

// The one process-wide object: a log line must be possible everywhere, before and after main's
// recipe.
State& state() {
  static State instance;
  return instance;
}

std::string as_text(std::string_view event, std::initializer_list<LogField> fields) {
  std::string line(event);
  for (const LogField& field : fields) line += fmt::format(" {}={}", field.key, field.value);
  return line;
}

std::string as_json(std::string_view event, std::initializer_list<LogField> fields) {
  nlohmann::ordered_json line{{"event", event}};
  for (const LogField& field : fields) line[std::string(field.key)] = field.value;
  std::string text = line.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
  return text.substr(1, text.size() - 2);
}

}  // namespace

void configure_log(LogLevel level, LogFormat format) {
  state().format = format;
  state().logger->set_level(spdlog_level(level));
  state().logger->set_pattern(format == LogFormat::Json
                                  ? R"({"time":"%Y-%m-%dT%H:%M:%S.%f%z","level":"%l",%v})"
                                  : "%Y-%m-%d %H:%M:%S.%e %-5l %v");
}

bool log_enabled(LogLevel level) { return state().logger->should_log(spdlog_level(level)); }

void log_event(LogLevel level, std::string_view event, std::initializer_list<LogField> fields) {
  state().logger->log(
      spdlog_level(level), "{}",
      state().format == LogFormat::Json ? as_json(event, fields) : as_text(event, fields));
}

}  // namespace mayfly
