#include "remote/s3_credentials.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstdlib>
#include <map>
#include <string>
#include <utility>

#include "core/reason.h"
#include "net/http.h"

namespace mayfly {
namespace {

constexpr std::size_t kLongestFile = std::size_t{64} * 1024;
constexpr std::size_t kLongestValue = 8192;

using Section = std::map<std::string, std::string, std::less<>>;

std::string take(Section& section, std::string_view key) {
  const auto found = section.find(key);
  return found == section.end() ? std::string() : std::move(found->second);
}

// What a header may hold, without a blank that would end a word of it.
bool is_sendable(std::string_view value) {
  return value.size() <= kLongestValue &&
         std::ranges::all_of(value, [](char c) { return c > 0x20 && c < 0x7f; });
}

Status check_credentials(const S3Credentials& credentials) {
  const auto bad = [](std::string_view name, std::string_view why) {
    return refuse(reason::kInvalidSetting, fmt::format("{} {}", name, why));
  };
  if (credentials.id.empty()) return bad("aws_access_key_id", "is missing");
  if (credentials.secret.empty()) return bad("aws_secret_access_key", "is missing");
  if (!is_sendable(credentials.id))
    return bad("aws_access_key_id", "has a character it cannot have");
  if (!is_sendable(credentials.token))
    return bad("aws_session_token", "has a character it cannot have");
  return {};
}

std::string variable(const char* name) {
  const char* value = std::getenv(name);
  return value == nullptr ? std::string() : std::string(value);
}

}  // namespace

Result<S3Credentials> parse_s3_credentials(std::string_view text) {
  std::map<std::string, Section, std::less<>> sections;
  Section* current = nullptr;
  for (std::size_t line_number = 1; !text.empty(); ++line_number) {
    const std::size_t end = std::min(text.find('\n'), text.size());
    std::string_view line = text.substr(0, end);
    text.remove_prefix(std::min(end + 1, text.size()));
    if (line.ends_with('\r')) line.remove_suffix(1);
    line = trim_blanks(line);
    if (line.empty() || line.starts_with('#') || line.starts_with(';')) continue;
    const std::size_t equals = line.find('=');
    if (line.starts_with('[') && line.ends_with(']')) {
      current = &sections[std::string(trim_blanks(line.substr(1, line.size() - 2)))];
    } else if (equals == std::string_view::npos) {
      return refuse(reason::kInvalidSetting,
                    fmt::format("line {} is neither [section] nor name = value", line_number));
    } else {
      if (current == nullptr) current = &sections["default"];
      (*current)[std::string(trim_blanks(line.substr(0, equals)))] =
          trim_blanks(line.substr(equals + 1));
    }
  }
  auto chosen = sections.find("default");
  if (chosen == sections.end() && sections.size() == 1) chosen = sections.begin();
  if (chosen == sections.end()) {
    return refuse(reason::kInvalidSetting, "there is no section [default]");
  }
  S3Credentials credentials{.id = take(chosen->second, "aws_access_key_id"),
                            .secret = take(chosen->second, "aws_secret_access_key"),
                            .token = take(chosen->second, "aws_session_token")};
  TRY(check_credentials(credentials));
  return credentials;
}

Result<S3Credentials> read_s3_credentials(const Path& file) {
  if (!file.empty()) {
    const auto text = read_file(file, kLongestFile);
    if (!text) return refuse(reason::kInvalidSetting, text.error().message);
    auto credentials = parse_s3_credentials(*text);
    if (!credentials) return std::unexpected(std::move(credentials).error().in(file.native()));
    return credentials;
  }
  S3Credentials credentials{.id = variable("AWS_ACCESS_KEY_ID"),
                            .secret = variable("AWS_SECRET_ACCESS_KEY"),
                            .token = variable("AWS_SESSION_TOKEN")};
  if (credentials.id.empty() && credentials.secret.empty()) {
    return refuse(reason::kInvalidSetting,
                  "there are no credentials: name a file in store.s3_credentials, or set "
                  "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY");
  }
  TRY(check_credentials(credentials));
  return credentials;
}

}  // namespace mayfly
