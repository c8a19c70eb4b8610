// Files that a jail wrote, as they become the server's. Blocking: for pools.
#pragma once

#include <sys/types.h>

#include <string>

#include "base/result.h"

namespace mayfly {

// From the descriptor's offset to the end; 64 hexadecimal digits.
Result<std::string> hash_file(int fd);
// Nobody else can write it any more.
Status own_file(int fd, mode_t mode);

}  // namespace mayfly
