#include "core/wire/plain_reply.h"

#include <fmt/format.h>

#include "core/wire/json_text.h"
#include "core/wire/tensor_to_json.h"

namespace mayfly {

Result<std::string> encode_plain_reply(std::span<const ReplyTensor> outputs,
                                       const SizeLimit& limit) {
  std::string text = "{";
  for (const ReplyTensor& tensor : outputs) {
    if (text.size() > 1) text += ',';
    append_json_string(text, tensor.name);
    text += ':';
    const Status written = append_json_tensor(
        text, {.type = tensor.type, .shape = tensor.shape, .bytes = tensor.bytes}, limit);
    if (!written) {
      return std::unexpected(written.error().in(fmt::format("output '{}'", tensor.name)));
    }
  }
  text += '}';
  if (text.size() > limit.bytes) return refuse_size("the reply", limit);
  return text;
}

}  // namespace mayfly
