#include "core/wire/chunk.h"

#include <algorithm>
#include <cstdint>
#include <utility>

#include "core/reason.h"
#include "core/wire/json_text.h"

namespace mayfly {

Result<std::string> chunk_of(const Document& document, const SizeLimit& limit) {
  if (document.body.size() > limit.bytes) return refuse_size("the chunk", limit);
  // Copied before it is looked at: it may change meanwhile.
  std::string text(reinterpret_cast<const char*>(document.body.data()), document.body.size());
  if (document.content_type != "application/json" || text.empty() ||
      text.find_first_of("\r\n") != std::string::npos || !is_utf8(text)) {
    return refuse(reason::kBadReply,
                  "the instance's reply is malformed: a chunk is no line of JSON");
  }
  return text;
}

std::string named_chunk(std::string_view json, std::string_view name, std::string_view version) {
  std::string text = "{\"model_name\":";
  append_json_string(text, name);
  text += ",\"model_version\":";
  append_json_string(text, version);
  if (!json.starts_with('{')) {
    text.append(",\"output\":").append(json).append("}");
  } else if (json == "{}") {
    text += '}';
  } else {
    text.append(",").append(json.substr(1));
  }
  return text;
}

std::string to_event(std::string_view json) {
  std::string event = "data: ";
  return std::move(event.append(json).append("\n\n"));
}

void append_traceback(std::string& json, std::string_view traceback) {
  if (traceback.empty()) return;
  json += ",\"traceback\":";
  char before = '[';
  for (std::size_t begin = 0; begin <= traceback.size();) {
    const std::size_t end = std::min(traceback.find('\n', begin), traceback.size());
    json += std::exchange(before, ',');
    append_json_string(json, traceback.substr(begin, end - begin));
    begin = end + 1;
  }
  json += ']';
}

std::string to_error_event(std::string_view message, std::string_view reason, int status,
                           std::string_view traceback) {
  std::string json = "{\"error\":";
  append_json_string(json, message);
  json += ",\"reason\":";
  append_json_string(json, reason);
  json += ",\"status\":";
  append_json_number(json, std::int64_t{status});
  append_traceback(json, traceback);
  json += '}';
  return "event: error\n" + to_event(json);
}

}  // namespace mayfly
