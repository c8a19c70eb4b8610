// Memory of coroutine frames, kept for the next frame of its size. A prediction runs some fifteen
// coroutines whose frames are up to 8 KiB: too large for the fast path of malloc, and always the
// same. Each thread keeps its own, at most kKeptFrames of a size.
#pragma once

#include <cstddef>

namespace mayfly {

inline constexpr std::size_t kKeptFrames = 128;

void* allocate_frame(std::size_t bytes);
void release_frame(void* frame, std::size_t bytes) noexcept;

}  // namespace mayfly
