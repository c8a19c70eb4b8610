// System shared memory of clients (the protocol's extension): tensors that a client on this machine
// laid into a POSIX shared-memory segment. The server copies with pread and pwrite and never maps
// one, so that a client who truncates or rewrites it can harm only his own request.
//
// Off unless the configuration names the user whose segments may be opened. A segment belongs to a
// project by its name: "/mayfly.PROJECT.NAME", without a dot in NAME, so that no project's name is
// the beginning of another's. Loop thread, but for copies, which may run on a pool.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/fd.h"
#include "base/file.h"
#include "base/result.h"
#include "core/wire/model_metadata.h"

namespace mayfly {

// A part of a segment that a client gave a name.
class ClientRegion {
 public:
  struct About {
    std::string name{};
    std::string key{};  // of the segment: "/mayfly.default.inputs"
    std::uint64_t offset = 0;
    std::uint64_t size = 0;
  };
  ClientRegion(About about, Fd segment) : about_(std::move(about)), segment_(std::move(segment)) {}

  const About& about() const { return about_; }
  // Whether `size` bytes from `offset` lie within it: invalid_input, naming both.
  Status check(std::uint64_t offset, std::uint64_t size) const;
  // Blocks no longer than copying takes. invalid_input: the segment ends earlier by now.
  Status read(std::uint64_t offset, std::span<std::byte> into) const;
  Status write(std::uint64_t offset, std::span<const std::byte> from) const;

 private:
  About about_;
  Fd segment_;
};

using ClientRegionRef = std::shared_ptr<const ClientRegion>;

class ClientMemory {
 public:
  static constexpr std::size_t kMostRegions = 64;  // of a project; each holds a descriptor
  static constexpr std::size_t kMostOfAll = 1024;

  // `client`: whose segments may be opened; nullopt: nobody's, and every call is unsupported.
  explicit ClientMemory(std::optional<uid_t> client, Path folder = "/dev/shm");

  SharedMemory state() const { return client_ ? SharedMemory::On : SharedMemory::Off; }
  // unsupported: nobody's segments may be opened.
  Status check_enabled() const;

  // conflict: the name is taken. invalid_input: the key is none of the project's, the segment is
  // not there, is no regular one, is somebody else's, or is too small.
  Status add(std::string_view project, ClientRegion::About about);
  Status remove(std::string_view project, std::string_view name);  // absent is fine
  Status remove_all(std::string_view project);
  // All of the project, or the one named; not_found.
  Result<std::vector<ClientRegionRef>> list(std::string_view project, std::string_view name) const;
  // For a tensor of a request: invalid_input.
  Result<ClientRegionRef> find(std::string_view project, std::string_view name) const;

 private:
  ClientRegionRef lookup(std::string_view project, std::string_view name) const;  // null: none
  Result<Fd> open_segment(std::string_view project, const ClientRegion::About& about) const;

  std::optional<uid_t> client_;
  Path folder_;
  using Regions = std::map<std::string, ClientRegionRef, std::less<>>;
  std::map<std::string, Regions, std::less<>> projects_;
  std::size_t count() const;  // of all projects
};

}  // namespace mayfly
