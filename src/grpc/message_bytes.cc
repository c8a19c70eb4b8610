#include "grpc/message_bytes.h"

#include <algorithm>
#include <utility>

#include "base/utf8.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kMaxMessage = 2000;

}  // namespace

std::string shortened(std::string_view text) {
  std::string message = to_utf8(text);  // it may quote what came
  if (message.size() <= kMaxMessage) return message;
  std::size_t end = kMaxMessage;
  while (end > 0 && (static_cast<unsigned char>(message[end]) & 0xC0) == 0x80)
    --end;  // not in UTF-8
  return message.substr(0, end) + " …";
}

BufferStream::BufferStream(const grpc::ByteBuffer& buffer) {
  if (!buffer.Dump(&slices_).ok()) slices_.clear();
}

bool BufferStream::Next(const void** data, int* size) {
  while (slice_ < slices_.size() && offset_ == slices_[slice_].size()) {
    ++slice_;
    offset_ = 0;
  }
  if (slice_ == slices_.size()) return false;
  const grpc::Slice& slice = slices_[slice_];
  const std::size_t left = std::min<std::size_t>(slice.size() - offset_, INT32_MAX);
  *data = slice.begin() + offset_;
  *size = static_cast<int>(left);
  offset_ += left;
  read_ += *size;
  return true;
}

void BufferStream::BackUp(int count) {
  offset_ -= static_cast<std::size_t>(count);
  read_ -= count;
}

bool BufferStream::Skip(int count) {
  const void* data = nullptr;
  int size = 0;
  while (count > 0) {
    if (!Next(&data, &size)) return false;
    if (size > count) BackUp(size - count);
    count -= std::min(size, count);
  }
  return true;
}

Status parse_message(const grpc::ByteBuffer& buffer, google::protobuf::MessageLite& message) {
  BufferStream stream(buffer);
  if (message.ParseFromZeroCopyStream(&stream)) return {};
  return refuse(reason::kBadRequest, "the message is not what this method takes");
}

grpc::ByteBuffer to_buffer(std::string text) {
  // Not the constructor from a string: that copies.
  auto* kept = new std::string(std::move(text));
  const grpc::Slice slice(
      kept->data(), kept->size(), [](void* owned) { delete static_cast<std::string*>(owned); },
      kept);
  return {&slice, 1};
}

grpc::ByteBuffer to_buffer(const google::protobuf::MessageLite& message) {
  return to_buffer(message.SerializeAsString());
}

}  // namespace mayfly
