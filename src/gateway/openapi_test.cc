// docs/openapi.yaml names every route and no other. That its examples and schemas are true is shown
// by tests/e2e/openapi_test.py.
#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <sstream>
#include <string>
#include <vector>

#include "base/file.h"
#include "gateway/route.h"

#include <doctest/doctest.h>

using namespace mayfly;

namespace {

// The key on a line of block YAML that stands exactly `indent` spaces deep; empty: there is none.
std::string key_at(std::size_t indent, const std::string& line) {
  if (line.find_first_not_of(' ') != indent || line[indent] == '#') return {};
  const std::size_t colon = line.find(": ", indent);
  const bool ends = colon == std::string::npos && line.ends_with(':');
  if (colon == std::string::npos && !ends) return {};
  return line.substr(indent, (ends ? line.size() - 1 : colon) - indent);
}

// "GET /v2" of everything under `paths:`: paths two spaces deep, methods four.
std::vector<std::string> documented_patterns(const std::string& yaml) {
  std::vector<std::string> patterns;
  std::istringstream lines(yaml);
  bool in_paths = false;
  std::string path;
  for (std::string line; std::getline(lines, line);) {
    if (const std::string section = key_at(0, line); !section.empty())
      in_paths = section == "paths";
    if (!in_paths) continue;
    if (const std::string key = key_at(2, line); !key.empty()) path = key;
    std::string method = key_at(4, line);
    if (method.empty() || method == "parameters") continue;
    std::ranges::transform(method, method.begin(),
                           [](unsigned char c) { return static_cast<char>(std::toupper(c)); });
    patterns.push_back(fmt::format("{} {}", method, path));
  }
  return patterns;
}

std::vector<std::string> sorted(std::vector<std::string> patterns) {
  std::ranges::sort(patterns);
  return patterns;
}

}  // namespace

TEST_CASE("docs/openapi.yaml names every route, once, and nothing else") {
  const auto yaml = read_file(Path(MAYFLY_SOURCE_DIR) / "docs/openapi.yaml");
  REQUIRE(yaml.has_value());
  const std::vector<std::string> documented = sorted(documented_patterns(*yaml));
  const std::vector<std::string> routes = sorted(route_patterns());
  std::vector<std::string> missing;
  std::vector<std::string> invented;
  std::ranges::set_difference(routes, documented, std::back_inserter(missing));
  std::ranges::set_difference(documented, routes, std::back_inserter(invented));
  for (const std::string& pattern : missing) FAIL_CHECK("not documented: ", pattern);
  for (const std::string& pattern : invented) FAIL_CHECK("documented and not served: ", pattern);
}
