#include "sandbox/log_lines.h"

namespace mayfly {

void LogLines::append(std::string_view bytes) {
  for (const char c : bytes) {
    if (c == '\n') {
      emit();
      continue;
    }
    const auto code = static_cast<unsigned char>(c);
    line_.push_back(code < ' ' || code == 127 ? ' ' : c);
    if (line_.size() == kLongest) emit();
  }
}

void LogLines::finish() {
  if (!line_.empty()) emit();
}

void LogLines::emit() {
  sink_(line_);
  line_.clear();
}

}  // namespace mayfly
