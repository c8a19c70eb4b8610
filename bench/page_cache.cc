// Files and the page cache.
//
//   page_cache evict --file F…   puts their bytes out of the page cache and verifies that they are
//   page_cache read --file F…    maps them and touches every page in order; prints how long it took
#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <string>
#include <string_view>
#include <vector>

#include "tool.h"

namespace mayfly::bench {
namespace {

constexpr std::size_t kPage = 4096;

class MappedFile {
 public:
  explicit MappedFile(const std::string& path) : fd_(::open(path.c_str(), O_RDONLY | O_CLOEXEC)) {
    require_call(fd_ >= 0, path);
    struct stat info{};
    require_call(::fstat(fd_, &info) == 0, path);
    size_ = static_cast<std::size_t>(info.st_size);
    if (size_ == 0) return;
    void* data = ::mmap(nullptr, size_, PROT_READ, MAP_PRIVATE, fd_, 0);
    require_call(data != MAP_FAILED, path);
    data_ = static_cast<const volatile unsigned char*>(data);
  }
  MappedFile(MappedFile&&) = delete;
  ~MappedFile() {
    unmap();
    ::close(fd_);
  }

  std::size_t size() const { return size_; }
  int fd() const { return fd_; }

  void unmap() {
    if (data_ != nullptr) ::munmap(const_cast<unsigned char*>(data_), size_);
    data_ = nullptr;
  }
  std::size_t resident_pages() const {
    if (size_ == 0) return 0;
    std::vector<unsigned char> pages((size_ + kPage - 1) / kPage);
    require_call(::mincore(const_cast<unsigned char*>(data_), size_, pages.data()) == 0, "mincore");
    std::size_t resident = 0;
    for (const unsigned char page : pages) resident += page & 1U;
    return resident;
  }
  unsigned touch() const {
    unsigned sum = 0;
    for (std::size_t at = 0; at < size_; at += kPage) sum += data_[at];
    return sum;
  }

 private:
  int fd_;
  std::size_t size_ = 0;
  const volatile unsigned char* data_ = nullptr;
};

// Dirty pages stay whatever fadvise is told: they are written first.
Report evict(const std::vector<std::string>& files) {
  Report report;
  std::size_t resident = 0;
  for (const std::string& path : files) {
    MappedFile file(path);
    file.unmap();
    require_call(::fdatasync(file.fd()) == 0, path);
    require(::posix_fadvise(file.fd(), 0, 0, POSIX_FADV_DONTNEED) == 0, "posix_fadvise failed");
    resident += MappedFile(path).resident_pages();
    report.more["bytes"] += static_cast<double>(file.size());
  }
  report.more["resident_pages"] = static_cast<double>(resident);
  return report;
}

Report read(const std::vector<std::string>& files) {
  Report report;
  unsigned sum = 0;
  const double begin = now_us();
  for (const std::string& path : files) {
    const MappedFile file(path);
    sum += file.touch();
    report.more["bytes"] += static_cast<double>(file.size());
  }
  report.samples_us.push_back(now_us() - begin);
  report.more["sum"] = sum;
  return report;
}

}  // namespace
}  // namespace mayfly::bench

int main(int argc, char** argv) {
  using namespace mayfly::bench;
  const std::string_view mode = argc > 1 ? argv[1] : "";
  require(mode == "evict" || mode == "read", "evict or read?");
  const auto files = Arguments(argc, argv, 2).all("file");
  print(mode == "evict" ? evict(files) : read(files));
}
