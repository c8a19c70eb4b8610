// A file's bytes, mapped read-only for as long as it lives. The file must not shrink meanwhile.
#pragma once

#include <cstddef>
#include <string_view>
#include <utility>

#include "base/file.h"
#include "base/result.h"

namespace mayfly {

class MappedFile {
 public:
  static Result<MappedFile> open(const Path& path);
  MappedFile(MappedFile&& other) noexcept
      : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}
  MappedFile& operator=(MappedFile&&) = delete;
  ~MappedFile();
  std::string_view bytes() const { return {data_, size_}; }

 private:
  MappedFile(const char* data, std::size_t size) : data_(data), size_(size) {}
  const char* data_;
  std::size_t size_;
};

}  // namespace mayfly
