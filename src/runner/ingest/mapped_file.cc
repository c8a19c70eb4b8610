#include "runner/ingest/mapped_file.h"

#include <fcntl.h>
#include <sys/mman.h>

namespace mayfly {

Result<MappedFile> MappedFile::open(const Path& path) {
  const Fd file = TRY(open_file(path, O_RDONLY));
  const std::uint64_t size = TRY(mayfly::file_size(path));
  if (size == 0) return MappedFile(nullptr, 0);
  void* map = ::mmap(nullptr, size, PROT_READ, MAP_SHARED, file.get(), 0);
  if (map == MAP_FAILED) return fail_errno(path.native());
  return MappedFile(static_cast<const char*>(map), size);
}

MappedFile::~MappedFile() {
  if (data_ != nullptr) ::munmap(const_cast<char*>(data_), size_);
}

}  // namespace mayfly
