// Files that a jail wrote, as they become the server's. Blocking: for pools.
#pragma once

#include <sys/types.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace mayfly {

// From the descriptor's offset to the end; 64 hexadecimal digits. `pace` is told how many bytes
// were read, and an error of it ends that.
using ReadPace = std::function<Status(std::uint64_t bytes)>;
Result<std::string> hash_file(int fd, const ReadPace& pace = {});
// Nobody else can write it any more.
Status own_file(int fd, mode_t mode);

struct TreeLimits {
  int depth = 48;
  std::size_t entries = 200'000;
  std::uint64_t bytes = std::uint64_t{16} << 30;
};
struct TakenFile {
  std::string path;  // relative to the tree's root
  int file = -1;     // borrowed, at its beginning
  std::uint64_t size = 0;
};
// A tree becomes the server's own, one entry at a time through descriptors: nothing is reached by a
// name that a link could turn elsewhere. `visit` gets each file; files are 0444 then, folders 0755.
// publish_failed, naming the entry: links, devices, what is too deep or too much.
Status take_tree(Fd folder, const TreeLimits& limits,
                 const std::function<Status(const TakenFile& file)>& visit);

}  // namespace mayfly
