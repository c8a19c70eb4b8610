#include "core/printable.h"

namespace mayfly {

std::string printable(std::string_view text, std::size_t limit) {
  std::string out(text.substr(0, limit));
  for (std::size_t i = 0; i < out.size(); ++i) {
    const auto byte = static_cast<unsigned char>(out[i]);
    if ((byte < ' ' && byte != '\t') || byte == 127) out[i] = '?';
    if (byte != 0xC2 || i + 1 == out.size()) continue;
    if (const auto next = static_cast<unsigned char>(out[i + 1]); next >= 0x80 && next < 0xA0) {
      out.replace(i, 2, "?");
    }
  }
  return out;
}

}  // namespace mayfly
