#include "async/frame_memory.h"

#include <array>
#include <new>

namespace mayfly {
namespace {

constexpr std::size_t kStep = 64;
constexpr std::size_t kLargest = 8192;

// Free frames of one size, linked through their own memory.
struct Shelf {
  struct Free {
    Free* next;
  };
  Free* first = nullptr;
  std::size_t count = 0;
};

struct Shelves {
  std::array<Shelf, kLargest / kStep> by_size;
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

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define MAYFLY_WATCH_FRAMES 1
#endif
#endif

#ifdef MAYFLY_WATCH_FRAMES
// Kept memory would hide uses after the end of a frame.
void* allocate_frame(std::size_t bytes) { return ::operator new(bytes); }
void release_frame(void* frame, std::size_t /*bytes*/) noexcept { ::operator delete(frame); }
#else
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
#endif

}  // namespace mayfly
