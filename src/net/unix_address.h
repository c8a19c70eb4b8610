// The address of a socket file, however long its path is. The kernel takes 107 bytes (unix(7)); a
// longer path is named through its folder, held open: /proc/self/fd/N/NAME.
#pragma once

#include <sys/socket.h>
#include <sys/un.h>

#include <filesystem>
#include <string>

#include "base/fd.h"
#include "base/result.h"

namespace mayfly {

class UnixAddress {
 public:
  // InvalidArgument: the file's own name is too long. NotFound: there is no such folder.
  static Result<UnixAddress> of(const std::filesystem::path& path);

  // Good for bind() and connect() while this object lives.
  const sockaddr* get() const { return reinterpret_cast<const sockaddr*>(&address_); }
  static constexpr socklen_t size() { return sizeof(sockaddr_un); }

 private:
  UnixAddress() = default;
  Status set(const std::string& path);

  sockaddr_un address_{.sun_family = AF_UNIX, .sun_path = {}};
  Fd folder_;  // of a long path
};

}  // namespace mayfly
