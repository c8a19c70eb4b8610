// A folder as one file, so that it can be sent: a zip archive whose entries are stored as they are.
#pragma once

#include "base/file.h"
#include "base/result.h"

namespace mayfly {

// Every plain file under `folder` by its relative path, in order; what begins with a dot and links
// are left out. At most 65,535 files and 4 GiB: more is refused.
Status zip_folder(const Path& folder, const Path& into);

}  // namespace mayfly
