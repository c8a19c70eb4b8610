// What a function asks another one, and what becomes of it, as it lies in a call region.
//
//   0    CallHead
//   32   CallPart[parts]         a tensor: its name, type and shape, and where its bytes are
//        name, text, names of the parts, one after the other
//        … each part's bytes, 64-byte aligned
//
//   kind       name              text           parts                                from
//   Tensors    of the function                  its inputs                           instance
//   Document   of the function   content type   one, BYTES of no element: the body   instance
//   Tensors                                     its outputs                          server
//   Document                     content type   one, likewise: the reply             server
//   Failed     the reason        the message    none                                 server
//   AskInJson                                   none: it takes no tensors            server
//
// Trust: as with replies (sandbox/channel.h), every length, offset and count is copied once, and
// the copy is checked. The bytes of parts may change under the reader.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "core/tensor.h"
#include "sandbox/channel.h"

namespace mayfly {

enum class CallKind : std::uint32_t { Tensors = 1, Document = 2, Failed = 3, AskInJson = 4 };

struct CallPart {
  std::string name;
  DataType type = DataType::Bytes;
  Shape shape = {};
  std::span<const std::byte> bytes = {};
};

struct CallMessage {
  CallKind kind = CallKind::Failed;
  std::uint32_t status = 0;  // of HTTP, where it has failed
  std::string name = {};
  std::string text = {};
  std::vector<CallPart> parts = {};
};

inline constexpr std::size_t kMaxCallText = 16 * 1024;  // each: name, text, name of a part

// The bytes that it takes in a region. Name and text that are too long are cut there.
std::uint64_t call_bytes(const CallMessage& message);
// `region` has so many.
void write_call(RequestSpan region, const CallMessage& message);
// The parts look into the region. An error of reason bad_reply: it is malformed.
Result<CallMessage> read_call(RequestSpan region);

}  // namespace mayfly
