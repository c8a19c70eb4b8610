#include "async/frame_memory.h"

#include <array>
#include <new>

namespace mayfly {
namespace {

constexpr std::size_t kStep = 64;
// Under AddressSanitizer nothing is kept: that would hide uses after the end of a frame.
#if __has_feature(address_sanitizer)
constexpr std::size_t kLargest = 0;
#else
constexpr std::size_t kLargest = 8192;
#endif

// Free frames of one size, linked through their own memory.
struct Shelf {
  struct Free {
    Free* next;
  };
  Free* first = nullptr;
  std::size_t count = 0;
};

struct Shelves {
  std::array<Shelf, kLargest / kStep + 1> by_size;
  ~Shelves() {
    for (Shelf& shelf : by_size) {
      while (shelf.first != nullptr) {
        Shelf::Free* frame = shelf.first;
        shelf.first = frame->next;
        ::operator delete(frame);
      }
      shelf.count = kKeptFrames;  // what ends after this thread's storage is not kept
    }
  }
};

thread_local Shelves shelves;

std::size_t shelf_of(std::size_t bytes) { return (bytes - 1) / kStep; }

}  // namespace

void* allocate_frame(std::size_t bytes) {
  if (bytes > kLargest) return ::operator new(bytes);
  const std::size_t index = shelf_of(bytes);
  Shelf& shelf = shelves.by_size[index];
  if (shelf.first == nullptr) return ::operator new((index + 1) * kStep);
  Shelf::Free* frame = shelf.first;
  shelf.first = frame->next;
  --shelf.count;
  return frame;
}

void release_frame(void* frame, std::size_t bytes) noexcept {
  if (bytes > kLargest || shelves.by_size[shelf_of(bytes)].count >= kKeptFrames) {
    ::operator delete(frame);
    return;
  }
  Shelf& shelf = shelves.by_size[shelf_of(bytes)];
  shelf.first = new (frame) Shelf::Free{shelf.first};
  ++shelf.count;
}

}  // namespace mayfly
