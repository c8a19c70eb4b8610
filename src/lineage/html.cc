#include "lineage/html.h"

#include <array>
#include <utility>

#include "core/printable.h"

namespace mayfly {
namespace {

// U+200E, U+200F, U+202A to U+202E, U+2066 to U+2069: what is shown would not be what is written.
bool turns_writing(std::string_view text) {
  if (text.size() < 3 || text[0] != '\xe2') return false;
  const auto second = static_cast<unsigned char>(text[1]);
  const auto third = static_cast<unsigned char>(text[2]);
  if (second == 0x80) return third == 0x8e || third == 0x8f || (third >= 0xaa && third <= 0xae);
  return second == 0x81 && third >= 0xa6 && third <= 0xa9;
}

}  // namespace

std::string escape_html(std::string_view text, std::size_t most) {
  const std::string plain = printable(text, most);
  std::string escaped;
  for (std::size_t i = 0; i < plain.size(); ++i) {
    if (turns_writing(std::string_view(plain).substr(i))) {
      escaped += '?';
      i += 2;
      continue;
    }
    switch (plain[i]) {
      case '&':
        escaped += "&amp;";
        break;
      case '<':
        escaped += "&lt;";
        break;
      case '>':
        escaped += "&gt;";
        break;
      case '"':
        escaped += "&quot;";
        break;
      case '\'':
        escaped += "&#39;";
        break;
      default:
        escaped += plain[i];
    }
  }
  if (plain.size() < text.size()) escaped += "…";
  return escaped;
}

Html& Html::element(std::string_view tag, std::string_view words, std::size_t most) {
  return raw("<").raw(tag).raw(">").text(words, most).raw("</").raw(tag).raw(">");
}

}  // namespace mayfly
