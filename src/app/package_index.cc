#include "app/package_index.h"

#include <fmt/format.h>

#include <algorithm>
#include <cctype>
#include <cstdlib>
#include <ranges>

#include "app/debian_mirrors.h"
#include "core/python_version.h"
#include "core/reason.h"

namespace mayfly {
namespace {

std::string_view trimmed(std::string_view text) {
  constexpr std::string_view kSpace = " \t\r";
  const std::size_t begin = std::min(text.find_first_not_of(kSpace), text.size());
  const std::size_t end = text.find_last_not_of(kSpace);
  return end == std::string_view::npos ? std::string_view() : text.substr(begin, end + 1 - begin);
}

std::string variable(const char* name) {
  const char* value = ::getenv(name);  // NOLINT(concurrency-mt-unsafe): before any thread
  return value == nullptr ? std::string() : value;
}

// In pip's order: what is nearer to the user wins.
std::vector<Path> configuration_files() {
  std::vector<Path> files;
  const std::string home = variable("HOME");
  const std::string config = variable("XDG_CONFIG_HOME");
  if (const std::string own = variable("PIP_CONFIG_FILE"); !own.empty()) files.emplace_back(own);
  if (!config.empty()) {
    files.push_back(Path(config) / "pip" / "pip.conf");
  } else if (!home.empty()) {
    files.push_back(Path(home) / ".config" / "pip" / "pip.conf");
  }
  if (!home.empty()) files.push_back(Path(home) / ".pip" / "pip.conf");
  files.emplace_back("/etc/xdg/pip/pip.conf");
  files.emplace_back("/etc/pip.conf");
  return files;
}

std::string configured(const char* environment, std::string_view key) {
  if (std::string value = variable(environment); !value.empty()) return value;
  for (const Path& file : configuration_files()) {
    const auto text = read_file(file);
    if (!text) continue;
    if (std::string value = pip_setting(*text, key); !value.empty()) return value;
  }
  return {};
}

bool is_yes(std::string_view value) {
  return value == "1" || value == "true" || value == "yes" || value == "on";
}

}  // namespace

std::string pip_setting(std::string_view text, std::string_view key) {
  bool ours = false;
  std::string found;
  for (const auto part : std::views::split(text, '\n')) {
    const std::string_view line = trimmed(std::string_view(part));
    if (line.starts_with('[')) {
      ours = line == "[global]" || line == "[install]";
      continue;
    }
    const std::size_t equals = line.find_first_of("=:");
    if (!ours || line.starts_with('#') || equals == std::string_view::npos) continue;
    std::string name(trimmed(line.substr(0, equals)));
    std::ranges::replace(name, '_', '-');
    if (name == key) found = trimmed(line.substr(equals + 1));
  }
  return found;
}

std::string host_of_index(std::string_view url) {
  std::string_view port = "443";
  if (url.starts_with("https://")) {
    url.remove_prefix(8);
  } else if (url.starts_with("http://")) {
    url.remove_prefix(7);
    port = "80";
  } else {
    return {};
  }
  std::string_view authority = url.substr(0, url.find_first_of("/?#"));
  if (const std::size_t at = authority.rfind('@'); at != std::string_view::npos)
    authority.remove_prefix(at + 1);
  if (authority.empty()) return {};
  // A colon behind the last bracket, if any, is the port's.
  const std::size_t colon = authority.rfind(':');
  const std::size_t bracket = authority.rfind(']');
  const bool has_port =
      colon != std::string_view::npos && (bracket == std::string_view::npos || colon > bracket);
  return has_port ? std::string(authority) : fmt::format("{}:{}", authority, port);
}

namespace {

Result<PackageIndex> pip_index(const Config& config) {
  if (config.index_url == "off") return PackageIndex{};
  PackageIndex index{.url = config.index_url, .hosts = {}};
  if (index.url.empty()) {
    if (is_yes(configured("PIP_NO_INDEX", "no-index"))) return PackageIndex{};
    index.url = configured("PIP_INDEX_URL", "index-url");
  }
  const bool usual = index.url.empty();
  if (usual) index.url = kPipIndex;
  const std::string host = host_of_index(index.url);
  if (host.empty()) {
    return refuse(reason::kInvalidSetting,
                  fmt::format("python.index_url: '{}' is no http or https URL", index.url));
  }
  index.hosts.push_back(host);
  if (usual) index.hosts.push_back(fmt::format("{}:443", kPipFiles));
  for (const std::string& also : config.index_hosts)
    index.hosts.push_back(also.find(':') == std::string::npos ? also + ":443" : also);
  // As they are compared: pip lowers what it asks for.
  for (std::string& known : index.hosts)
    std::ranges::transform(known, known.begin(), [](unsigned char c) { return std::tolower(c); });
  return index;
}

}  // namespace

Result<PackageIndex> package_index(const Config& config) {
  PackageIndex index = TRY(pip_index(config));
  index.debian_hosts = debian_mirrors();
  return index;
}

}  // namespace mayfly
