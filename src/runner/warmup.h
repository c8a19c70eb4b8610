// The request a session is warmed with: an image of a request region (header, slots, inputs; see
// sandbox/channel.h), with no room for outputs.
#pragma once

#include <cstddef>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "core/tensor.h"
#include "sandbox/channel.h"

namespace mayfly {

// The image of a request of this layout, its inputs zeroed. They lie at layout.input_offset(i).
std::vector<std::byte> make_request_image(const RequestLayout& layout);

// Zeros for every input, free dimensions taken as 1, every output wanted: zeros divide nothing,
// index what exists, and read as empty strings.
Result<std::vector<std::byte>> make_zero_request(const Signature& signature);

// A region that holds the artifact's warmup.bin, or else a zero request, and has room for outputs.
Result<Region> make_warmup_region(const Path& artifact, const Signature& signature);
// The same; NotFound where the artifact has no warmup.bin.
Result<Region> read_warmup_region(const Path& artifact);

}  // namespace mayfly
