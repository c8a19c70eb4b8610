#include "core/names.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "core/project.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxName = 63;

bool is_alphanumeric(char c) { return (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9'); }
bool is_name_character(char c) { return is_alphanumeric(c) || c == '.' || c == '_' || c == '-'; }

bool is_name(std::string_view text) {
  return !text.empty() && text.size() <= kMaxName && is_alphanumeric(text.front()) &&
         std::ranges::all_of(text, is_name_character);
}

bool is_number(std::string_view text) {
  return std::ranges::all_of(text, [](char c) { return c >= '0' && c <= '9'; });
}

// What a person sees of a name that came from outside.
std::string shown(std::string_view text) {
  std::string out;
  for (const char c : text.substr(0, kMaxName + 1)) out += c >= ' ' && c <= '~' ? c : '?';
  return out;
}

}  // namespace

std::string qualified_name(std::string_view project, std::string_view name) {
  return project == kDefaultProject ? std::string(name) : fmt::format("{}/{}", project, name);
}

std::string_view project_of(std::string_view qualified) {
  const std::size_t slash = qualified.find('/');
  return slash == std::string_view::npos ? kDefaultProject : qualified.substr(0, slash);
}

std::string_view local_name(std::string_view qualified) {
  return qualified.substr(qualified.find('/') + 1);  // npos + 1 is 0
}

Status check_project(std::string_view name) {
  if (is_name(name)) return {};
  return refuse(reason::kInvalidSetting,
                fmt::format("'{}' is not a project's name: use 1 to 63 of a-z, 0-9, '.', '_', '-', "
                            "beginning with a letter or digit",
                            shown(name)));
}

Result<FunctionName> FunctionName::parse(std::string_view text) {
  const bool in_project = text.contains('/');
  const bool fits =
      !in_project || (is_name(project_of(text)) && project_of(text) != kDefaultProject);
  if (!fits || !is_name(local_name(text))) {
    return refuse(
        reason::kBadRequest,
        fmt::format("'{}' is not a function name: use 1 to 63 of a-z, 0-9, '.', '_', '-', "
                    "beginning with a letter or digit",
                    shown(text)));
  }
  return FunctionName(std::string(text));
}

Result<VersionNumber> parse_version_number(std::string_view digits) {
  std::uint32_t value = 0;
  const auto [end, error] = std::from_chars(digits.data(), digits.data() + digits.size(), value);
  if (error != std::errc() || end != digits.data() + digits.size() || value == 0) {
    return refuse(reason::kBadRequest,
                  fmt::format("'{}' is not a version number: use 1, 2, 3, …", shown(digits)));
  }
  return VersionNumber{value};
}

Status check_alias(std::string_view text) {
  if (is_name(text) && !is_number(text)) return {};
  return refuse(reason::kBadRequest,
                fmt::format("'{}' is neither a version number nor an alias: aliases are spelled "
                            "like functions, and not of digits alone",
                            shown(text)));
}

Result<ModelRef> parse_model_ref(std::string_view text) {
  const std::size_t at = text.find('@');
  FunctionName function = TRY(FunctionName::parse(text.substr(0, at)));
  if (at == std::string_view::npos) return ModelRef{std::move(function), std::nullopt};
  const std::string_view which = text.substr(at + 1);
  if (is_number(which)) return ModelRef{std::move(function), TRY(parse_version_number(which))};
  TRY(check_alias(which));
  return ModelRef{std::move(function), std::nullopt, std::string(which)};
}

std::string without_project(std::string_view project, std::string text) {
  if (project == kDefaultProject) return text;
  const std::string prefix = fmt::format("{}/", project);
  const auto within_name = [&](std::size_t at) {
    const char before = at == 0 ? ' ' : text[at - 1];
    return before == '/' || before == '.' || before == '-' || before == '_' ||
           (before >= 'a' && before <= 'z') || (before >= '0' && before <= '9');
  };
  for (std::size_t at = text.find(prefix); at != std::string::npos; at = text.find(prefix, at)) {
    if (within_name(at)) {
      at += prefix.size();
    } else {
      text.erase(at, prefix.size());
    }
  }
  return text;
}

}  // namespace mayfly
