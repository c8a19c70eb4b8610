// Removing what somebody hostile may have left: folders that their owner may not read, trees of any
// depth. std::filesystem::remove_all gives up at the first, and holds a descriptor for each level
// of the second.
#pragma once

#include "base/file.h"
#include "base/result.h"

namespace mayfly {

// The file or folder with all below it; ok when it is not there. Follows no symbolic link, holds a
// handful of descriptors at most, and goes on past what cannot be removed, so that an error (the
// first one) leaves no more than that. Whoever still writes there may win: what it makes stays.
Status remove_tree(const Path& path);

}  // namespace mayfly
