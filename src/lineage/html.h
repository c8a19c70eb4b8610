// HTML as it is built for a page that carries foreign words: literals of this program go in as they
// are, everything else escaped.
#pragma once

#include <cstddef>
#include <string>
#include <string_view>

namespace mayfly {

inline constexpr std::size_t kMostOfWord = 300;

// At most so many bytes, without control characters or such as turn the direction of writing, and
// with HTML's own characters as entities.
std::string escape_html(std::string_view text, std::size_t most = kMostOfWord);

class Html {
 public:
  Html& raw(std::string_view markup) {
    page_ += markup;
    return *this;
  }
  Html& text(std::string_view words, std::size_t most = kMostOfWord) {
    page_ += escape_html(words, most);
    return *this;
  }
  // <tag>words</tag>
  Html& element(std::string_view tag, std::string_view words, std::size_t most = kMostOfWord);
  std::string take() { return std::move(page_); }

 private:
  std::string page_;
};

}  // namespace mayfly
