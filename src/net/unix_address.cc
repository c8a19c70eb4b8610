#include "net/unix_address.h"

#include <fcntl.h>
#include <fmt/format.h>

#include "base/file.h"

namespace mayfly {

Status UnixAddress::set(const std::string& path) {
  if (path.size() >= sizeof address_.sun_path)
    return fail(Code::InvalidArgument, fmt::format("the socket path {} is too long", path));
  path.copy(address_.sun_path, path.size());
  return {};
}

Result<UnixAddress> UnixAddress::of(const std::filesystem::path& path) {
  UnixAddress address;
  if (path.native().size() < sizeof address.address_.sun_path) {
    TRY(address.set(path.native()));
    return address;
  }
  address.folder_ = TRY(open_file(path.parent_path(), O_PATH | O_DIRECTORY));
  TRY(address.set(
      fmt::format("/proc/self/fd/{}/{}", address.folder_.get(), path.filename().native())));
  return address;
}

}  // namespace mayfly
