#include "sandbox/call_message.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <string_view>

#include "base/check.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::uint32_t kCallMagic = 0x4d61'7943;

struct CallHead {
  std::uint32_t magic;
  CallKind kind;
  std::uint32_t parts;
  std::uint32_t status;
  std::uint32_t name_bytes;
  std::uint32_t text_bytes;
  std::uint64_t reserved;
};
static_assert(sizeof(CallHead) == 32);

struct PartHead {
  TensorSlot tensor;
  std::uint64_t name_bytes;
};
static_assert(sizeof(PartHead) == 160);

std::uint64_t aligned(std::uint64_t offset) {
  return (offset + kTensorAlignment - 1) / kTensorAlignment * kTensorAlignment;
}

std::string_view cut(std::string_view text) { return text.substr(0, kMaxCallText); }

// Where the texts begin, and where the first part's bytes may.
struct CallLayout {
  std::uint64_t texts = 0;
  std::uint64_t bytes = 0;
};

CallLayout layout_of(const CallMessage& message) {
  CallLayout layout{.texts = sizeof(CallHead) + message.parts.size() * sizeof(PartHead)};
  layout.bytes = layout.texts + cut(message.name).size() + cut(message.text).size();
  for (const CallPart& part : message.parts) layout.bytes += cut(part.name).size();
  return layout;
}

// Reads what a hostile peer may change at any time: each byte once.
class CallReader {
 public:
  explicit CallReader(RequestSpan region) : region_(region) {}

  template <typename T>
  Result<T> head() {
    const auto bytes = TRY(take(sizeof(T)));
    T value;
    std::memcpy(&value, bytes.data(), sizeof value);
    // The copy must be what is checked and used: no re-reading of the source by the compiler.
    __asm__ volatile("" ::: "memory");
    return value;
  }
  Result<std::string> text(std::uint64_t length) {
    if (length > kMaxCallText) return bad("a text is too long");
    const auto bytes = TRY(take(length));
    return std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  }
  Result<std::span<const std::byte>> at(std::uint64_t offset, std::uint64_t length) const {
    if (offset > region_.size() || length > region_.size() - offset)
      return bad("a tensor is outside the region");
    return region_.subspan(offset, length);
  }
  static std::unexpected<Error> bad(std::string_view what) {
    return refuse(reason::kBadReply, fmt::format("a call is malformed: {}", what));
  }

 private:
  Result<std::span<const std::byte>> take(std::uint64_t length) {
    if (length > region_.size() - next_) return bad("it is cut off");
    const auto bytes = region_.subspan(next_, length);
    next_ += length;
    return bytes;
  }

  RequestSpan region_;
  std::size_t next_ = 0;
};

Result<CallPart> part_of(const CallReader& reader, const TensorSlot& slot) {
  if (!is_known(slot.type) || slot.rank > kMaxRank)
    return CallReader::bad("unknown datatype or rank");
  CallPart part{.name = {},
                .type = static_cast<DataType>(slot.type),
                .shape = Shape(slot.dims.begin(), slot.dims.begin() + slot.rank)};
  const auto expected = byte_count(part.type, part.shape);
  if (!expected) return CallReader::bad("impossible shape");
  if (part.type != DataType::Bytes && *expected != slot.bytes)
    return CallReader::bad("shape and size disagree");
  part.bytes = TRY(reader.at(slot.offset, slot.bytes));
  return part;
}

Status check_kind(const CallMessage& message) {
  const auto parts = message.parts.size();
  switch (message.kind) {
    case CallKind::Tensors:
      return {};
    case CallKind::Document:
      if (parts == 1 && message.parts.front().type == DataType::Bytes) return {};
      return CallReader::bad("a document has one body");
    case CallKind::Failed:
    case CallKind::AskInJson:
      if (parts == 0) return {};
      return CallReader::bad("tensors where there are none");
  }
  return CallReader::bad("unknown kind");
}

}  // namespace

std::uint64_t call_bytes(const CallMessage& message) {
  std::uint64_t end = layout_of(message).bytes;
  for (const CallPart& part : message.parts) end = aligned(end) + part.bytes.size();
  return end;
}

void write_call(RequestSpan region, const CallMessage& message) {
  CHECK(call_bytes(message) <= region.size() && message.parts.size() <= kMaxTensors);
  const CallLayout layout = layout_of(message);
  const CallHead head{.magic = kCallMagic,
                      .kind = message.kind,
                      .parts = static_cast<std::uint32_t>(message.parts.size()),
                      .status = message.status,
                      .name_bytes = static_cast<std::uint32_t>(cut(message.name).size()),
                      .text_bytes = static_cast<std::uint32_t>(cut(message.text).size()),
                      .reserved = 0};
  std::memcpy(region.data(), &head, sizeof head);
  std::byte* text = region.data() + layout.texts;
  const auto put = [&text](std::string_view what) {
    std::memcpy(text, what.data(), what.size());
    text += what.size();
  };
  put(cut(message.name));
  put(cut(message.text));
  std::uint64_t end = layout.bytes;
  std::byte* slot = region.data() + sizeof head;
  for (const CallPart& part : message.parts) {
    PartHead made{.tensor = {}, .name_bytes = cut(part.name).size()};
    made.tensor.type = static_cast<std::uint8_t>(part.type);
    CHECK(part.shape.size() <= kMaxRank);
    made.tensor.rank = static_cast<std::uint8_t>(part.shape.size());
    std::ranges::copy(part.shape, made.tensor.dims.begin());
    made.tensor.offset = aligned(end);
    made.tensor.bytes = part.bytes.size();
    std::memcpy(slot, &made, sizeof made);
    slot += sizeof made;
    put(cut(part.name));
    std::ranges::copy(part.bytes, region.data() + made.tensor.offset);
    end = made.tensor.offset + part.bytes.size();
  }
}

Result<CallMessage> read_call(RequestSpan region) {
  CallReader reader(region);
  const auto head = TRY(reader.head<CallHead>());
  if (head.magic != kCallMagic) return CallReader::bad("it is none");
  if (head.parts > kMaxTensors) return CallReader::bad("too many tensors");
  CallMessage message{.kind = head.kind, .status = head.status};
  std::vector<std::uint64_t> names;
  std::uint64_t total = 0;
  for (std::uint32_t i = 0; i < head.parts; ++i) {
    const auto part = TRY(reader.head<PartHead>());
    message.parts.push_back(TRY(part_of(reader, part.tensor)));
    names.push_back(part.name_bytes);
    // More than all of the region: they overlap, and cost more than the peer has.
    total += message.parts.back().bytes.size();
    if (total > region.size()) return CallReader::bad("tensors overlap");
  }
  message.name = TRY(reader.text(head.name_bytes));
  message.text = TRY(reader.text(head.text_bytes));
  for (std::uint32_t i = 0; i < head.parts; ++i) message.parts[i].name = TRY(reader.text(names[i]));
  TRY(check_kind(message));
  return message;
}

}  // namespace mayfly
