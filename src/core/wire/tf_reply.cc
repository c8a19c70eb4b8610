#include "core/wire/tf_reply.h"

#include <fmt/format.h>

#include <utility>
#include <vector>

#include "core/reason.h"
#include "core/wire/json_text.h"
#include "core/wire/tensor_to_json.h"

namespace mayfly {
namespace {

struct Column {
  std::string_view name;
  JsonTensor rest;  // of it that is not written yet
};

using AppendValue = Status (*)(std::string& text, JsonTensor& rest, const SizeLimit& limit);

Status append_whole(std::string& text, JsonTensor& rest, const SizeLimit& limit) {
  return append_json_tensor(text, rest, limit);
}

std::vector<Column> columns_of(std::span<const ReplyTensor> outputs) {
  std::vector<Column> columns;
  columns.reserve(outputs.size());
  for (const ReplyTensor& tensor : outputs) {
    const bool is_binary = tensor.name.ends_with("_bytes");
    columns.push_back(
        {.name = tensor.name,
         .rest = {.type = tensor.type,
                  .shape = tensor.shape,
                  .bytes = tensor.bytes,
                  .elements = is_binary ? JsonBytes::Base64 : JsonBytes::TextOrBase64}});
  }
  return columns;
}

// Bare where there is one column, else an object by name.
Status append_values(std::string& text, std::span<Column> columns, AppendValue append_value,
                     const SizeLimit& limit) {
  const bool bare = columns.size() == 1;
  if (!bare) text += '{';
  for (Column& column : columns) {
    if (!bare) {
      if (&column != columns.data()) text += ',';
      append_json_string(text, column.name);
      text += ':';
    }
    if (const Status written = append_value(text, column.rest, limit); !written) {
      return std::unexpected(written.error().in(fmt::format("output '{}'", column.name)));
    }
  }
  if (!bare) text += '}';
  return {};
}

Status check_rows(std::span<const Column> columns, std::uint64_t instances) {
  for (const Column& column : columns) {
    const auto& shape = column.rest.shape;
    if (!shape.empty() && static_cast<std::uint64_t>(shape.front()) == instances) continue;
    return refuse(reason::kInvalidInput,
                  fmt::format("output '{}': shape {} has no row for each of the {} instances; send "
                              "the request in columns ('inputs' instead of 'instances')",
                              column.name, to_string(shape), instances));
  }
  return {};
}

Status append_rows(std::string& text, std::span<Column> columns, std::uint64_t instances,
                   const SizeLimit& limit) {
  TRY(check_rows(columns, instances));
  text += '[';
  for (std::uint64_t i = 0; i < instances; ++i) {
    if (i > 0) text += ',';
    TRY(append_values(text, columns, append_json_row, limit));
    if (text.size() > limit.bytes) return refuse_size("the reply", limit);
  }
  text += ']';
  return {};
}

}  // namespace

Result<std::string> encode_tf_reply(std::span<const ReplyTensor> outputs,
                                    std::optional<std::uint64_t> instances,
                                    const SizeLimit& limit) {
  std::vector<Column> columns = columns_of(outputs);
  std::string text = instances ? R"({"predictions":)" : R"({"outputs":)";
  if (instances) {
    TRY(append_rows(text, columns, *instances, limit));
  } else {
    TRY(append_values(text, columns, append_whole, limit));
  }
  text += '}';
  if (text.size() > limit.bytes) return refuse_size("the reply", limit);
  return text;
}

}  // namespace mayfly
