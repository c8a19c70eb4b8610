#include "app/debian_mirrors.h"

#include <algorithm>
#include <filesystem>
#include <iterator>
#include <ranges>

#include "app/package_index.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxAptFile = 1 << 20;

bool is_read_by_apt(const Path& file) {
  const Path folder = file.parent_path().filename();
  const Path extension = file.extension();
  if (folder == "sources.list.d") return extension == ".list" || extension == ".sources";
  return extension == ".conf" || extension.empty();
}

void add_hosts_of(const Path& file, std::vector<std::string>& hosts) {
  const auto text = read_file(file, kMaxAptFile);
  if (!text) return;
  std::ranges::copy(hosts_in_apt_file(*text), std::back_inserter(hosts));
}

}  // namespace

std::vector<std::string> hosts_in_apt_file(std::string_view text) {
  std::vector<std::string> hosts;
  for (const auto part : std::views::split(text, '\n')) {
    std::string_view line(part);
    line.remove_prefix(std::min(line.find_first_not_of(" \t"), line.size()));
    if (line.starts_with('#') || line.starts_with("//")) continue;
    for (std::size_t at = 0; (at = line.find("http", at)) != std::string_view::npos;) {
      const std::string_view rest = line.substr(at);
      const std::string_view uri = rest.substr(0, rest.find_first_of(" \t\r\";"));
      std::string host = host_of_index(uri);
      std::ranges::transform(host, host.begin(), [](unsigned char c) { return std::tolower(c); });
      at += host.empty() ? 1 : uri.size();
      if (!host.empty()) hosts.push_back(std::move(host));
    }
  }
  return hosts;
}

std::vector<std::string> debian_mirrors(const Path& folder) {
  std::vector<std::string> hosts;
  add_hosts_of(folder / "sources.list", hosts);
  add_hosts_of(folder / "apt.conf", hosts);
  for (const char* parts : {"sources.list.d", "apt.conf.d"}) {
    std::error_code error;
    for (const auto& entry : std::filesystem::directory_iterator(folder / parts, error)) {
      if (is_read_by_apt(entry.path())) add_hosts_of(entry.path(), hosts);
    }
  }
  std::ranges::sort(hosts);
  const auto twice = std::ranges::unique(hosts);
  hosts.erase(twice.begin(), twice.end());
  return hosts;
}

}  // namespace mayfly
