#include "serving/client_memory.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kLongestKey = 255;
constexpr std::size_t kLongestName = 255;

std::unexpected<Error> bad(std::string message) {
  return refuse(reason::kInvalidInput, std::move(message));
}

std::string unregistered(std::string_view name) {
  return fmt::format("no shared-memory region '{}' is registered", name.substr(0, 100));
}

// Why `key` cannot be the project's; empty: it can.
Status check_key(std::string_view project, std::string_view key) {
  const std::string prefix = fmt::format("/mayfly.{}.", project);
  const bool own = key.starts_with(prefix) && key.size() > prefix.size();
  const std::string_view rest = own ? key.substr(prefix.size()) : std::string_view();
  if (own && key.size() <= kLongestKey &&
      rest.find_first_of(std::string_view("./\0", 3)) == rest.npos)
    return {};
  return bad(
      fmt::format("key: '{}' is no segment of this project: it is to be called {}NAME, "
                  "without '.' and '/' in NAME",
                  key.substr(0, kLongestKey), prefix));
}

Status check_segment(int segment, uid_t client, const ClientRegion::About& about) {
  struct stat status{};
  if (::fstat(segment, &status) != 0)
    return fail_errno(fmt::format("look at the segment {}", about.key));
  if (!S_ISREG(status.st_mode)) return bad(fmt::format("key: {} is no segment", about.key));
  if (status.st_uid != client) {
    return bad(fmt::format("key: {} belongs to another user than client_shm.uid", about.key));
  }
  const auto size = static_cast<std::uint64_t>(status.st_size);
  if (about.size == 0 || about.offset > size || about.size > size - about.offset) {
    return bad(fmt::format("{} bytes from {} do not lie within {}, which has {}", about.size,
                           about.offset, about.key, size));
  }
  return {};
}

}  // namespace

Status ClientRegion::check(std::uint64_t offset, std::uint64_t size) const {
  if (offset <= about_.size && size <= about_.size - offset) return {};
  return bad(
      fmt::format("{} bytes from {} do not lie within the shared-memory region '{}', which "
                  "has {}",
                  size, offset, about_.name, about_.size));
}

Status ClientRegion::read(std::uint64_t offset, std::span<std::byte> into) const {
  TRY(check(offset, into.size()));
  auto at = static_cast<off_t>(about_.offset + offset);
  while (!into.empty()) {
    const ssize_t got = ::pread(segment_.get(), into.data(), into.size(), at);
    if (got < 0 && errno == EINTR) continue;
    if (got < 0) return fail_errno(fmt::format("read the segment {}", about_.key));
    if (got == 0) return bad(fmt::format("the segment {} was made shorter", about_.key));
    into = into.subspan(static_cast<std::size_t>(got));
    at += got;
  }
  return {};
}

Status ClientRegion::write(std::uint64_t offset, std::span<const std::byte> from) const {
  TRY(check(offset, from.size()));
  struct stat status{};
  if (::fstat(segment_.get(), &status) != 0)
    return fail_errno(fmt::format("look at the segment {}", about_.key));
  auto at = static_cast<off_t>(about_.offset + offset);
  // A write beyond the end would make a segment longer that its owner has made shorter.
  if (status.st_size < at + static_cast<off_t>(from.size()))
    return bad(fmt::format("the segment {} was made shorter", about_.key));
  while (!from.empty()) {
    const ssize_t put = ::pwrite(segment_.get(), from.data(), from.size(), at);
    if (put < 0 && errno == EINTR) continue;
    if (put <= 0) return fail_errno(fmt::format("write the segment {}", about_.key));
    from = from.subspan(static_cast<std::size_t>(put));
    at += put;
  }
  return {};
}

ClientMemory::ClientMemory(std::optional<uid_t> client, Path folder)
    : client_(client), folder_(std::move(folder)) {}

Status ClientMemory::check_enabled() const {
  if (client_) return {};
  return refuse(reason::kUnsupported,
                "system shared memory is off: client_shm.uid names whose segments may be used; "
                "send tensors in the request, in binary if they are large");
}

Result<Fd> ClientMemory::open_segment(std::string_view project,
                                      const ClientRegion::About& about) const {
  TRY(check_key(project, about.key));
  const Path path = folder_ / about.key.substr(1);
  // Neither through a link, nor waiting for the other end of a pipe.
  constexpr int kFlags = O_RDWR | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC | O_NOCTTY;
  Fd segment(::open(path.c_str(), kFlags));
  if (segment.get() < 0) {
    return bad(fmt::format("key: {} cannot be opened: {}", about.key, std::strerror(errno)));
  }
  TRY(check_segment(segment.get(), *client_, about));
  return segment;
}

Status ClientMemory::add(std::string_view project, ClientRegion::About about) {
  TRY(check_enabled());
  if (about.name.empty() || about.name.size() > kLongestName)
    return bad(fmt::format("a region's name has 1 to {} characters", kLongestName));
  const auto known = projects_.find(project);
  if (known != projects_.end() && known->second.contains(about.name)) {
    return refuse(reason::kConflict, fmt::format("the shared-memory region '{}' is registered "
                                                 "already",
                                                 about.name));
  }
  const std::size_t own = known == projects_.end() ? 0 : known->second.size();
  if (own >= kMostRegions || count() >= kMostOfAll) {
    return refuse(reason::kConflict,
                  fmt::format("{} shared-memory regions of the project are registered, of at most "
                              "{}, and {} of the node, of at most {}; unregister some",
                              own, kMostRegions, count(), kMostOfAll));
  }
  Fd segment = TRY(open_segment(project, about));
  std::string name = about.name;
  projects_[std::string(project)].emplace(
      std::move(name), std::make_shared<const ClientRegion>(std::move(about), std::move(segment)));
  return {};
}

Status ClientMemory::remove(std::string_view project, std::string_view name) {
  TRY(check_enabled());
  const auto known = projects_.find(project);
  if (known == projects_.end()) return {};
  const auto region = known->second.find(name);
  if (region != known->second.end()) known->second.erase(region);
  return {};
}

Status ClientMemory::remove_all(std::string_view project) {
  TRY(check_enabled());
  const auto known = projects_.find(project);
  if (known != projects_.end()) projects_.erase(known);
  return {};
}

std::size_t ClientMemory::count() const {
  std::size_t all = 0;
  for (const auto& [project, regions] : projects_) all += regions.size();
  return all;
}

ClientRegionRef ClientMemory::lookup(std::string_view project, std::string_view name) const {
  const auto known = projects_.find(project);
  if (known == projects_.end()) return nullptr;
  const auto region = known->second.find(name);
  return region == known->second.end() ? nullptr : region->second;
}

Result<std::vector<ClientRegionRef>> ClientMemory::list(std::string_view project,
                                                        std::string_view name) const {
  TRY(check_enabled());
  if (!name.empty()) {
    ClientRegionRef region = lookup(project, name);
    if (region == nullptr) return refuse(reason::kNotFound, unregistered(name));
    return std::vector{std::move(region)};
  }
  std::vector<ClientRegionRef> regions;
  const auto known = projects_.find(project);
  if (known == projects_.end()) return regions;
  for (const auto& [named, region] : known->second) regions.push_back(region);
  return regions;
}

Result<ClientRegionRef> ClientMemory::find(std::string_view project, std::string_view name) const {
  TRY(check_enabled());
  ClientRegionRef region = lookup(project, name);
  if (region == nullptr) return bad(unregistered(name));
  return region;
}

}  // namespace mayfly
