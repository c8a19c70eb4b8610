// The secrets of a jail: files at /secrets, in the jail's own memory, that nothing in it can
// change.
//
// They travel beside the jail's plan, in a file without a name (memfd) that the server writes and
// jail init reads; the blank between them only passes it on. In it:
//
//   { u16 length name  u32 length value }...
#pragma once

#include <string>
#include <string_view>
#include <vector>

#include "base/fd.h"
#include "base/result.h"
#include "core/secret.h"

namespace mayfly {

inline constexpr std::string_view kSecretsFolder = "/secrets";

// In the server. Sealed: nobody changes it any more.
Result<Fd> pack_secrets(const std::vector<Secret>& secrets);
// As pack_secrets wrote it; for tests and for mount_secrets.
Result<std::vector<Secret>> unpack_secrets(int packed);

// While the process may mount: at `folder`, which is there, a file system with each file of mode
// 0400, read-only.
Status mount_secrets(int packed, const std::string& folder);

}  // namespace mayfly
