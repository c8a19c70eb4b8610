#include "runner/train/column_model.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>
#include <utility>

#include "core/printable.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::size_t kPieceBytes = std::size_t{4} << 20;  // of inputs, about
constexpr std::size_t kMostPiece = 4096;                   // rows
constexpr std::size_t kMostUsers = 16;  // likewise: of each, all items are scored
constexpr std::int64_t kLongestList = 1000;
constexpr std::size_t kLongestName = 200;

std::unexpected<Error> bad_model(std::string what) {
  return refuse(reason::kInvalidInput, fmt::format("the model {}", what));
}

std::string name_of(const TensorSpec& spec) { return printable(spec.name, kLongestName); }

std::string form_of(const TensorSpec& spec) {
  return fmt::format("{} {}", to_string(spec.type), to_string(spec.shape));
}

bool is_free_or(std::int64_t extent, std::uint64_t wanted) {
  return extent < 0 || static_cast<std::uint64_t>(extent) == wanted;
}

bool is_real(DataType type) { return type == DataType::Fp32 || type == DataType::Fp64; }

bool takes(DataType type, ColumnKind kind) {
  switch (kind) {
    case ColumnKind::Number:
      return is_real(type);
    case ColumnKind::Integer:
      return is_real(type) || type == DataType::Int64 || type == DataType::Int32;
    case ColumnKind::Date:
      return type == DataType::Int64;
    case ColumnKind::Category:
    case ColumnKind::Text:
      return type == DataType::Bytes;
    case ColumnKind::Image:
      break;
  }
  return type == DataType::Uint8 || type == DataType::Fp32;
}

std::string_view types_for(ColumnKind kind) {
  switch (kind) {
    case ColumnKind::Number:
      return "FP32 or FP64";
    case ColumnKind::Integer:
      return "FP32, FP64, INT64 or INT32";
    case ColumnKind::Date:
      return "INT64, milliseconds since 1970";
    case ColumnKind::Category:
    case ColumnKind::Text:
      return "BYTES (strings)";
    case ColumnKind::Image:
      break;
  }
  return "UINT8 or FP32 [rows, height, width, channels]";
}

bool has_shape_of(const TensorSpec& spec, const TrainColumn& column) {
  const Shape& shape = spec.shape;
  if (shape.empty() || !is_free_or(shape[0], 1)) return false;
  if (column.kind != ColumnKind::Image)
    return shape.size() == 1 || (shape.size() == 2 && is_free_or(shape[1], 1));
  return std::ranges::equal(std::span(shape).subspan(1), column.shape, is_free_or);
}

template <typename To, typename From>
void put_all(std::vector<std::byte>& bytes, std::span<const From> values) {
  bytes.resize(values.size() * sizeof(To));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const auto value = static_cast<To>(values[i]);
    std::memcpy(bytes.data() + i * sizeof(To), &value, sizeof value);
  }
}

void put_text(std::vector<std::byte>& bytes, std::string_view text) {
  const auto length = static_cast<std::uint32_t>(text.size());
  const auto prefix = std::as_bytes(std::span(&length, 1));
  const auto content = std::as_bytes(std::span(text));
  bytes.insert(bytes.end(), prefix.begin(), prefix.end());
  bytes.insert(bytes.end(), content.begin(), content.end());
}

Status put_reals(const TrainTable& table, std::size_t column, DataType type,
                 std::span<const std::uint32_t> rows, std::vector<std::byte>& bytes) {
  if (type == DataType::Fp64) {
    std::vector<double> values(rows.size());
    TRY(table.doubles(column, rows, values));
    put_all<double>(bytes, std::span<const double>(values));
    return {};
  }
  std::vector<float> values(rows.size());
  TRY(table.floats(column, rows, values));
  put_all<float>(bytes, std::span<const float>(values));
  return {};
}

Status put_integers(const TrainTable& table, std::size_t column, DataType type,
                    std::span<const std::uint32_t> rows, std::vector<std::byte>& bytes) {
  std::vector<std::int64_t> values(rows.size());
  TRY(table.integers(column, rows, values));
  if (type == DataType::Int64) {
    put_all<std::int64_t>(bytes, std::span<const std::int64_t>(values));
    return {};
  }
  using Narrow = std::numeric_limits<std::int32_t>;
  for (std::int64_t& value : values) {
    if (value == std::numeric_limits<std::int64_t>::min()) value = Narrow::min();
    if (value < Narrow::min() || value > Narrow::max()) {
      return bad_model(fmt::format("takes column '{}' as INT32, which holds {}: let it take INT64",
                                   table.columns()[column].name, value));
    }
  }
  put_all<std::int32_t>(bytes, std::span<const std::int64_t>(values));
  return {};
}

Status put_column(const TrainTable& table, std::size_t column, DataType type,
                  std::span<const std::uint32_t> rows, std::vector<std::byte>& bytes) {
  switch (table.columns()[column].kind) {
    case ColumnKind::Category:
    case ColumnKind::Text: {
      std::vector<std::string_view> texts(rows.size());
      TRY(table.texts(column, rows, texts));
      for (const std::string_view text : texts) put_text(bytes, text);
      return {};
    }
    case ColumnKind::Image: {
      std::vector<std::uint8_t> pixels(rows.size() * table.pixels_of(column));
      TRY(table.pixels(column, rows, pixels));
      if (type == DataType::Uint8) {
        put_all<std::uint8_t>(bytes, std::span<const std::uint8_t>(pixels));
      } else {
        put_all<float>(bytes, std::span<const std::uint8_t>(pixels));
      }
      return {};
    }
    case ColumnKind::Number:
    case ColumnKind::Integer:
    case ColumnKind::Date:
      break;
  }
  if (is_real(type)) return put_reals(table, column, type, rows, bytes);
  return put_integers(table, column, type, rows, bytes);
}

// Columns one after the other → rows one after the other.
std::vector<std::byte> transpose(const std::vector<std::vector<std::byte>>& columns,
                                 std::size_t rows, std::size_t size) {
  std::vector<std::byte> bytes(columns.size() * rows * size);
  for (std::size_t row = 0; row < rows; ++row) {
    for (std::size_t i = 0; i < columns.size(); ++i)
      std::memcpy(bytes.data() + (row * columns.size() + i) * size, columns[i].data() + row * size,
                  size);
  }
  return bytes;
}

template <typename T>
std::vector<T> values_in(const TrialTensor& said) {
  std::vector<T> values(said.bytes.size() / sizeof(T));
  std::memcpy(values.data(), said.bytes.data(), values.size() * sizeof(T));
  return values;
}

// Of a BYTES output, which our own code has laid out.
std::vector<std::string> texts_in(const TrialTensor& said) {
  std::vector<std::string> texts;
  for (std::size_t at = 0; at + sizeof(std::uint32_t) <= said.bytes.size();) {
    std::uint32_t length = 0;
    std::memcpy(&length, said.bytes.data() + at, sizeof length);
    at += sizeof length;
    if (length > said.bytes.size() - at) break;
    texts.emplace_back(reinterpret_cast<const char*>(said.bytes.data()) + at, length);
    at += length;
  }
  return texts;
}

template <typename T>
void append(GraphValues& to, std::vector<T> more) {
  auto* values = std::get_if<std::vector<T>>(&to);
  if (values == nullptr) values = &to.emplace<std::vector<T>>();
  values->insert(values->end(), std::make_move_iterator(more.begin()),
                 std::make_move_iterator(more.end()));
}

struct WantedOutput {
  std::string_view name;
  std::size_t width;  // 0: one a row, without a dimension of its own
  bool place;         // a label, a cluster or items
  bool needed;
  bool list = false;  // as wide as the model has it
};

std::vector<WantedOutput> wanted_outputs(const ModelAsk& ask) {
  switch (ask.task) {
    case TrainTask::Binary:
    case TrainTask::Multiclass:
      return {{"probabilities", ask.classes, false, true}, {"label", 0, true, false}};
    case TrainTask::Regression:
    case TrainTask::Ranking:
      return {{"value", 0, false, true}};
    case TrainTask::Recommendation:
      return {{"scores", 0, false, true, true}, {"items", 0, true, true, true}};
    case TrainTask::Clustering:
      break;
  }
  return {{"distance", 0, false, true}, {"cluster", 0, true, true}};
}

bool fits_output(const TensorSpec& spec, const WantedOutput& wanted) {
  const Shape& shape = spec.shape;
  const bool typed = wanted.place ? spec.type == DataType::Int64 || spec.type == DataType::Bytes
                                  : is_real(spec.type);
  if (!typed || shape.empty()) return false;
  if (wanted.list) return shape.size() == 2 && shape[1] > 0 && shape[1] <= kLongestList;
  if (wanted.width > 0) return shape.size() == 2 && is_free_or(shape[1], wanted.width);
  return shape.size() == 1 || (shape.size() == 2 && is_free_or(shape[1], 1));
}

std::string shape_of(const WantedOutput& wanted) {
  if (wanted.list) return "[rows, items]";
  return wanted.width == 0 ? "[rows]" : fmt::format("[rows, {}]", wanted.width);
}

std::string names_of(const std::vector<TensorSpec>& specs) {
  std::string names;
  for (const TensorSpec& spec : specs)
    names += fmt::format("{}{} {}", names.empty() ? "" : ", ", name_of(spec), form_of(spec));
  return names.substr(0, 2000);
}

}  // namespace

Result<ColumnModel> ColumnModel::open(const OnnxRuntime& runtime, const Path& model,
                                      const TrainTable& table, ModelAsk ask) {
  auto session = OnnxSession::open(runtime, model, ModelForm::Onnx, {.threads = ask.threads});
  if (!session) {
    return refuse(reason::kInvalidInput,
                  fmt::format("the model cannot be opened: {}",
                              printable(clean_ort_message(session.error().message), 2000)));
  }
  ColumnModel opened(*std::move(session), std::move(ask));
  TRY(opened.bind_inputs(table));
  TRY(opened.bind_outputs());
  return opened;
}

Status ColumnModel::bind_inputs(const TrainTable& table) {
  const auto& specs = session_.signature().inputs;
  std::size_t row = 1;
  for (const TensorSpec& spec : specs) {
    inputs_.push_back(TRY(bind_input(table, spec)));
    for (const std::size_t column : inputs_.back().columns)
      row += table.columns()[column].kind == ColumnKind::Image ? 4 * table.pixels_of(column) : 64;
  }
  const bool one_by_one =
      std::ranges::any_of(specs, [](const TensorSpec& spec) { return spec.shape[0] == 1; });
  const std::size_t most = ask_.task == TrainTask::Recommendation ? kMostUsers : kMostPiece;
  piece_ = one_by_one ? 1 : std::clamp<std::size_t>(kPieceBytes / row, 1, most);
  return {};
}

Result<ColumnModel::Input> ColumnModel::bind_input(const TrainTable& table,
                                                   const TensorSpec& spec) const {
  const auto column = table.find(spec.name);
  const bool of_users = ask_.task == TrainTask::Recommendation;
  if (!column && !of_users && session_.signature().inputs.size() == 1)
    return bind_matrix(table, spec);
  if (!column) {
    std::string names;
    for (const TrainColumn& known : table.columns())
      names += fmt::format("{}{}", names.empty() ? "" : ", ", known.name);
    return bad_model(fmt::format("has an input '{}', which is no column; there are {}",
                                 name_of(spec), names.substr(0, 2000)));
  }
  const bool hidden =
      of_users ? spec.name != ask_.group
               : spec.name == ask_.target || (!ask_.group.empty() && spec.name == ask_.group);
  if (hidden)
    return bad_model(fmt::format("has an input '{}', which it is not told", name_of(spec)));
  const TrainColumn& known = table.columns()[*column];
  if (!takes(spec.type, known.kind) || !has_shape_of(spec, known)) {
    return bad_model(fmt::format("takes '{}' as {}, which is a column of type {}: let it take {}",
                                 name_of(spec), form_of(spec), to_string(known.kind),
                                 types_for(known.kind)));
  }
  return Input{.columns = {*column}, .spec = spec};
}

Result<ColumnModel::Input> ColumnModel::bind_matrix(const TrainTable& table,
                                                    const TensorSpec& spec) const {
  Input input{.columns = {}, .spec = spec};
  for (std::size_t i = 0; i < table.columns().size(); ++i) {
    const TrainColumn& column = table.columns()[i];
    if (column.name == ask_.target || (!ask_.group.empty() && column.name == ask_.group)) continue;
    if (column.kind != ColumnKind::Number && column.kind != ColumnKind::Integer) {
      return bad_model(fmt::format(
          "takes one input '{}', which is no column; '{}' is of type {} and fits no matrix of "
          "numbers: give the model an input of each column, by its name",
          name_of(spec), column.name, to_string(column.kind)));
    }
    input.columns.push_back(i);
  }
  const Shape& shape = spec.shape;
  if (!is_real(spec.type) || shape.size() != 2 || !is_free_or(shape[0], 1) ||
      !is_free_or(shape[1], input.columns.size())) {
    return bad_model(fmt::format(
        "takes one input '{}' {}, which is no column; a matrix of all would be FP32 [-1,{}]",
        name_of(spec), form_of(spec), input.columns.size()));
  }
  return input;
}

Status ColumnModel::bind_outputs() {
  const Signature& signature = session_.signature();
  for (const WantedOutput& wanted : wanted_outputs(ask_)) {
    const auto index = signature.output_index(wanted.name);
    if (!index && !wanted.needed) continue;
    if (!index || !fits_output(signature.outputs[*index], wanted)) {
      return bad_model(fmt::format("has no output '{}' {} {}, which {} needs; it has {}",
                                   wanted.name, wanted.place ? "INT64" : "FP32", shape_of(wanted),
                                   to_string(ask_.task), names_of(signature.outputs)));
    }
    outputs_.push_back({.name = std::string(wanted.name),
                        .index = static_cast<std::uint32_t>(*index),
                        .width = wanted.list
                                     ? static_cast<std::size_t>(signature.outputs[*index].shape[1])
                                     : std::max<std::size_t>(wanted.width, 1)});
  }
  if (ask_.task == TrainTask::Recommendation && outputs_[0].width != outputs_[1].width)
    return bad_model("has not as many scores as items");
  return {};
}

Result<ModelAnswer> ColumnModel::run(const TrainTable& table, std::span<const std::uint32_t> rows) {
  ModelAnswer answer;
  answer.scores.width = outputs_.front().width;
  answer.scores.values.reserve(rows.size() * answer.scores.width);
  for (std::size_t at = 0; at < rows.size(); at += piece_)
    TRY(run_piece(table, rows.subspan(at, std::min(piece_, rows.size() - at)), answer));
  return answer;
}

Result<TrialTensors> ColumnModel::inputs(const TrainTable& table,
                                         std::span<const std::uint32_t> rows) const {
  TrialTensors inputs;
  for (std::size_t i = 0; i < inputs_.size(); ++i)
    inputs.push_back(TRY(read(table, inputs_[i], static_cast<std::uint32_t>(i), rows)));
  return inputs;
}

Status ColumnModel::run_piece(const TrainTable& table, std::span<const std::uint32_t> rows,
                              ModelAnswer& answer) {
  const TrialTensors inputs = TRY(this->inputs(table, rows));
  const auto said = run_trial(session_, session_.signature(), inputs);
  if (!said) {
    return bad_model(
        fmt::format("fails on rows that it was given: {}", printable(said.error().message, 2000)));
  }
  for (const Output& output : outputs_)
    TRY(take(said->at(output.index), output, rows.size(), answer));
  return {};
}

Result<TrialTensor> ColumnModel::read(const TrainTable& table, const Input& input,
                                      std::uint32_t index,
                                      std::span<const std::uint32_t> rows) const {
  TrialTensor tensor{.index = index,
                     .type = input.spec.type,
                     .shape = {static_cast<std::int64_t>(rows.size())},
                     .bytes = {}};
  if (input.columns.size() == 1 && table.columns()[input.columns[0]].name == input.spec.name) {
    const TrainColumn& column = table.columns()[input.columns[0]];
    for (const std::uint64_t extent : column.shape)
      tensor.shape.push_back(static_cast<std::int64_t>(extent));
    if (column.kind != ColumnKind::Image && input.spec.shape.size() == 2) tensor.shape.push_back(1);
    TRY(put_column(table, input.columns[0], tensor.type, rows, tensor.bytes));
    return tensor;
  }
  std::vector<std::vector<std::byte>> columns(input.columns.size());
  for (std::size_t i = 0; i < columns.size(); ++i)
    TRY(put_reals(table, input.columns[i], tensor.type, rows, columns[i]));
  tensor.shape.push_back(std::ssize(columns));
  tensor.bytes = transpose(columns, rows.size(), element_size(tensor.type));
  return tensor;
}

Status ColumnModel::take(const TrialTensor& said, const Output& output, std::size_t rows,
                         ModelAnswer& answer) const {
  const auto elements = element_count(said.shape);
  if (said.shape.empty() || !elements || *elements != rows * output.width) {
    return bad_model(
        fmt::format("gave '{}' {} of {} rows", output.name, to_string(said.shape), rows));
  }
  if (said.type == DataType::Bytes) {
    append(answer.places, texts_in(said));
  } else if (said.type == DataType::Int64) {
    append(answer.places, values_in<std::int64_t>(said));
  } else if (said.type == DataType::Fp32) {
    const auto values = values_in<float>(said);
    answer.scores.values.insert(answer.scores.values.end(), values.begin(), values.end());
  } else {
    for (const double value : values_in<double>(said))
      answer.scores.values.push_back(static_cast<float>(value));
  }
  return {};
}

}  // namespace mayfly
