// Between gRPC's buffers and protobuf's messages, without a copy of the whole in between.
#pragma once

#include <google/protobuf/io/zero_copy_stream.h>
#include <google/protobuf/message_lite.h>
#include <grpcpp/support/byte_buffer.h>
#include <grpcpp/support/slice.h>

#include <cstddef>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace mayfly {

// The bytes of a buffer in order, as protobuf reads them.
class BufferStream final : public google::protobuf::io::ZeroCopyInputStream {
 public:
  explicit BufferStream(const grpc::ByteBuffer& buffer);
  bool Next(const void** data, int* size) override;
  void BackUp(int count) override;
  bool Skip(int count) override;
  std::int64_t ByteCount() const override { return read_; }

 private:
  std::vector<grpc::Slice> slices_;
  std::size_t slice_ = 0;   // being read
  std::size_t offset_ = 0;  // in it
  std::int64_t read_ = 0;
};

// bad_request: the buffer holds no such message.
Status parse_message(const grpc::ByteBuffer& buffer, google::protobuf::MessageLite& message);
grpc::ByteBuffer to_buffer(std::string text);
// Of an error's text, as much as every client takes: 8 KiB of metadata, of which a byte of the text
// may become three. Cut between characters of UTF-8.
std::string shortened(std::string_view text);
grpc::ByteBuffer to_buffer(const google::protobuf::MessageLite& message);

}  // namespace mayfly
