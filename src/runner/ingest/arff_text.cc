#include "runner/ingest/arff_text.h"

#include <fmt/format.h>

#include <algorithm>
#include <set>
#include <utility>

#include "base/utf8.h"
#include "core/reason.h"

namespace mayfly {
namespace {

std::unexpected<Error> bad_arff(std::string_view what) {
  return refuse(reason::kInvalidInput, fmt::format("the ARFF file {}", what));
}

char lower(char c) { return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c; }

bool is_word(std::string_view text, std::string_view word) {
  return std::ranges::equal(text, word, {}, lower);
}

// Values on a line, from the front.
class ArffScanner {
 public:
  explicit ArffScanner(std::string_view text) : rest_(text) {}

  bool at_end() {
    skip_blanks();
    return rest_.empty() || rest_[0] == '%';
  }
  bool take(char wanted) {
    skip_blanks();
    if (rest_.empty() || rest_[0] != wanted) return false;
    rest_.remove_prefix(1);
    return true;
  }

  struct Token {
    std::string_view text;
    bool quoted = false;
  };
  // Quoted, or up to the next of `ends`, without blanks around it. nullopt: a quote is not closed.
  std::optional<Token> token(std::string_view ends, std::deque<std::string>& texts) {
    skip_blanks();
    if (!rest_.empty() && (rest_[0] == '\'' || rest_[0] == '"')) return quoted(texts);
    const std::size_t end = std::min(rest_.find_first_of(ends), rest_.size());
    std::string_view text = rest_.substr(0, end);
    rest_.remove_prefix(end);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
    return Token{.text = text, .quoted = false};
  }

 private:
  void skip_blanks() {
    const std::size_t first = std::min(rest_.find_first_not_of(" \t"), rest_.size());
    rest_.remove_prefix(first);
  }

  std::optional<Token> quoted(std::deque<std::string>& texts) {
    const char quote = rest_[0];
    std::string text;
    for (std::size_t i = 1; i < rest_.size(); ++i) {
      char c = rest_[i];
      if (c == quote) {
        rest_.remove_prefix(i + 1);
        return Token{.text = texts.emplace_back(std::move(text)), .quoted = true};
      }
      if (c == '\\' && i + 1 < rest_.size()) {
        c = rest_[++i];
        if (c == 'n') c = '\n';
        if (c == 't') c = '\t';
        if (c == 'r') c = '\r';
      }
      text += c;
    }
    return std::nullopt;
  }

  std::string_view rest_;
};

Result<std::vector<std::string>> read_nominal(ArffScanner& scanner, const std::string& name) {
  std::vector<std::string> categories;
  std::set<std::string> seen;
  std::deque<std::string> texts;
  if (scanner.take('}')) return categories;
  do {
    const auto token = scanner.token(",}", texts);
    if (!token || token->text.empty() || token->text.size() > kMaxCategory)
      return bad_arff(fmt::format("has a damaged list of values of '{}'", name));
    if (categories.size() == kMaxCategories)
      return bad_arff(fmt::format("has more than {} values of '{}'", kMaxCategories, name));
    std::string category = to_utf8(token->text);
    if (!seen.insert(category).second)
      return bad_arff(fmt::format("has a value of '{}' twice", name));
    categories.push_back(std::move(category));
  } while (scanner.take(','));
  if (!scanner.take('}'))
    return bad_arff(fmt::format("has a damaged list of values of '{}'", name));
  return categories;
}

Result<ArffAttribute> read_attribute(ArffScanner& scanner) {
  std::deque<std::string> texts;
  const auto name = scanner.token(" \t{", texts);
  if (!name || name->text.empty()) return bad_arff("has an attribute without a name");
  ArffAttribute attribute{.name = to_utf8(name->text)};
  if (scanner.take('{')) {
    attribute.type = ColumnType::Category;
    attribute.categories = TRY(read_nominal(scanner, attribute.name));
    return attribute;
  }
  const auto type = scanner.token(" \t", texts);
  const std::string_view word = type ? type->text : std::string_view();
  if (is_word(word, "numeric") || is_word(word, "real") || is_word(word, "integer"))
    return attribute;
  if (is_word(word, "string")) {
    attribute.type = ColumnType::Text;
    return attribute;
  }
  if (is_word(word, "date")) {
    attribute.type = ColumnType::Date;
    return attribute;
  }
  return bad_arff(fmt::format("has '{}' of the type '{}', which is not read here", attribute.name,
                              to_utf8(word.substr(0, 40))));
}

}  // namespace

Result<ArffLine> parse_arff_line(std::string_view line) {
  ArffScanner scanner(line);
  if (scanner.at_end()) return ArffLine{};
  std::deque<std::string> texts;
  const auto word = scanner.token(" \t", texts);
  if (word && is_word(word->text, "@relation")) return ArffLine{};
  if (word && is_word(word->text, "@data")) return ArffLine{.data = true};
  if (word && is_word(word->text, "@attribute"))
    return ArffLine{.attribute = TRY(read_attribute(scanner))};
  return bad_arff(fmt::format("has a line in its header that does not belong there: '{}'",
                              to_utf8(line.substr(0, 60))));
}

Result<std::vector<Cell>> parse_arff_row(std::string_view line, std::size_t attributes,
                                         std::deque<std::string>& texts) {
  ArffScanner scanner(line);
  if (scanner.take('{')) return bad_arff("is sparse, which is not read here");
  std::vector<Cell> cells;
  cells.reserve(attributes);
  do {
    const auto token = scanner.token(",", texts);
    if (!token) return refuse(reason::kInvalidInput, "a quote is not closed");
    if (cells.size() == attributes)
      return refuse(reason::kInvalidInput, fmt::format("it has more than {} values", attributes));
    const bool missing = !token->quoted && (token->text == "?" || token->text.empty());
    cells.push_back(missing ? Cell{}
                            : Cell{.kind = CellKind::Field, .quoted = true, .text = token->text});
  } while (scanner.take(','));
  if (!scanner.at_end()) return refuse(reason::kInvalidInput, "something stands behind a value");
  if (cells.size() == attributes) return cells;
  return refuse(reason::kInvalidInput,
                fmt::format("it has {} values, there are {} attributes", cells.size(), attributes));
}

}  // namespace mayfly
