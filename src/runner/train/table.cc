#include "runner/train/table.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <numeric>
#include <set>
#include <utility>

#include "core/json_reader.h"
#include "runner/report/dataset_schema.h"

namespace mayfly {
namespace {

constexpr std::size_t kMostColumns = 10'000;
constexpr std::size_t kMostSchema = std::size_t{64} << 20;
constexpr std::int64_t kMissingInteger = std::numeric_limits<std::int64_t>::min();

std::unexpected<Error> bad_schema(std::string_view what) {
  return fail(Code::InvalidArgument, fmt::format("schema.json {}", what));
}

std::unexpected<Error> bad_file(const Path& path, std::string_view what) {
  return fail(Code::InvalidArgument, fmt::format("{}: {}", path.native(), what));
}

Result<TrainColumn> parse_shape(const Json& json, TrainColumn column) {
  const Json shape = json.value("shape", Json());
  const auto is_extent = [](const Json& one) {
    return one.is_number_unsigned() && one > 0 && one <= kMaxImageSide;
  };
  if (!shape.is_array() || shape.size() != 3 || !std::ranges::all_of(shape, is_extent))
    return bad_schema(fmt::format("does not say how large the images of '{}' are", column.name));
  for (const Json& extent : shape) column.shape.push_back(extent.get<std::uint64_t>());
  return column;
}

Result<TrainColumn> parse_column(const Json& json) {
  if (!json.is_object()) return bad_schema("has a column that is no object");
  const Json name = json.value("name", Json());
  const Json type = json.value("type", Json());
  if (!name.is_string() || name.get_ref<const std::string&>().empty() || !type.is_string())
    return bad_schema("has a column without a name or type");
  TrainColumn column{.name = name.get<std::string>()};
  const auto kind = parse_column_kind(type.get_ref<const std::string&>());
  if (!kind) return bad_schema(fmt::format("has a column '{}' of no known type", column.name));
  column.kind = *kind;
  if (column.kind == ColumnKind::Image) return parse_shape(json, std::move(column));
  if (column.kind != ColumnKind::Category) return column;
  const Json categories = json.value("categories", Json());
  if (!categories.is_array())
    return bad_schema(fmt::format("does not list the categories of '{}'", column.name));
  for (const Json& category : categories) {
    if (!category.is_string())
      return bad_schema(fmt::format("has a category of '{}' that is no text", column.name));
    column.categories.push_back(category.get<std::string>());
  }
  return column;
}

std::string file_of(std::size_t column, std::string_view ending) {
  return fmt::format("c{}{}", column, ending);
}

NpyType stored_as(ColumnKind kind) {
  switch (kind) {
    case ColumnKind::Number:
      return NpyType::Float64;
    case ColumnKind::Category:
      return NpyType::Int32;
    case ColumnKind::Image:
      return NpyType::UInt8;
    case ColumnKind::Integer:
    case ColumnKind::Date:
    case ColumnKind::Text:
      break;
  }
  return NpyType::Int64;
}

// Folders of parts/, by number.
Result<std::vector<std::pair<std::uint64_t, Path>>> list_parts(const Path& folder) {
  std::vector<std::pair<std::uint64_t, Path>> parts;
  std::error_code error;
  for (const auto& entry : std::filesystem::directory_iterator(folder, error)) {
    const std::string name = entry.path().filename().native();
    std::uint64_t number = 0;
    const char* end = name.data() + name.size();
    const auto parsed = std::from_chars(name.data(), end, number);
    if (parsed.ec != std::errc() || parsed.ptr != end)
      return bad_file(entry.path(), "no number of a part");
    parts.emplace_back(number, entry.path());
  }
  if (error) return std::unexpected(errno_error(folder.native(), error.value()));
  std::ranges::sort(parts);
  return parts;
}

float nearest_float(double value) {
  if (std::isnan(value)) return std::numeric_limits<float>::quiet_NaN();
  constexpr double kMost = std::numeric_limits<float>::max();
  return static_cast<float>(std::clamp(value, -kMost, kMost));
}

}  // namespace

Result<std::vector<TrainColumn>> parse_columns(std::string_view schema_json) {
  const Json json = TRY(parse_json(schema_json, "schema.json"));
  if (!json.is_object() || !json.contains("columns") || !json["columns"].is_array())
    return bad_schema("lists no columns");
  if (json["columns"].size() > kMostColumns)
    return bad_schema(fmt::format("has more than {} columns", kMostColumns));
  std::vector<TrainColumn> columns;
  std::set<std::string> names;
  for (const Json& one : json["columns"]) {
    columns.push_back(TRY(parse_column(one)));
    if (!names.insert(columns.back().name).second)
      return bad_schema(fmt::format("has two columns '{}'", columns.back().name));
  }
  return columns;
}

Result<MappedText> MappedText::open(const Path& path) {
  const Fd file = TRY(open_file(path, O_RDONLY));
  const std::uint64_t length = TRY(mayfly::file_size(path));
  if (length == 0) return MappedText(std::string_view());
  void* map = ::mmap(nullptr, length, PROT_READ, MAP_SHARED, file.get(), 0);
  if (map == MAP_FAILED) return fail_errno(path.native());
  return MappedText(std::string_view(static_cast<const char*>(map), length));
}

MappedText& MappedText::operator=(MappedText&& other) noexcept {
  std::swap(bytes_, other.bytes_);
  return *this;
}

MappedText::~MappedText() {
  if (!bytes_.empty()) ::munmap(const_cast<char*>(bytes_.data()), bytes_.size());
}

Result<TrainTable> TrainTable::open(const Path& folder, std::string_view split,
                                    const ColumnChoice& choice) {
  const std::string schema = TRY(read_file(folder / "schema.json", kMostSchema));
  TrainTable table(TRY(parse_columns(schema)));
  std::uint64_t rows = 0;
  for (const auto& [number, path] : TRY(list_parts(folder / "parts"))) {
    const Path place = path / split;
    std::error_code error;
    if (!std::filesystem::exists(place, error)) continue;
    Part part = TRY(table.open_part(place, choice));
    if (part.rows == 0) continue;
    part.first = static_cast<std::uint32_t>(rows);
    rows += part.rows;
    if (rows > kMostRows)
      return bad_file(folder, fmt::format("has more than {} rows of {}", kMostRows, split));
    table.parts_.push_back(std::move(part));
  }
  table.rows_ = static_cast<std::uint32_t>(rows);
  return table;
}

Result<TrainTable::Part> TrainTable::open_part(const Path& folder,
                                               const ColumnChoice& choice) const {
  NpyColumn keys = TRY(NpyColumn::open(folder / "row.npy"));
  if (keys.type() != NpyType::UInt64 || keys.shape().size() != 1 || keys.rows() > kMostRows)
    return bad_file(folder / "row.npy", "not the keys of rows");
  Part part{.first = 0,
            .rows = static_cast<std::uint32_t>(keys.rows()),
            .keys = std::move(keys),
            .values = {},
            .texts = {}};
  part.values.resize(columns_.size());
  part.texts.resize(columns_.size());
  for (std::size_t i = 0; i < columns_.size(); ++i) {
    if (!choice.has(columns_[i].name)) continue;
    part.values[i] = TRY(open_values(folder, i, part.rows));
    if (columns_[i].kind == ColumnKind::Text)
      part.texts[i] = TRY(MappedText::open(folder / file_of(i, ".text")));
  }
  return part;
}

Result<NpyColumn> TrainTable::open_values(const Path& folder, std::size_t column,
                                          std::uint32_t rows) const {
  const TrainColumn& known = columns_[column];
  const bool text = known.kind == ColumnKind::Text;
  const Path path = folder / file_of(column, text ? ".offsets.npy" : ".npy");
  NpyColumn values = TRY(NpyColumn::open(path));
  if (values.type() != stored_as(known.kind) ||
      !std::ranges::equal(std::span(values.shape()).subspan(1), known.shape))
    return bad_file(path, fmt::format("not of the type of column '{}'", known.name));
  if (values.rows() != std::uint64_t{rows} + (text ? 1 : 0))
    return bad_file(path, fmt::format("has {} values for {} rows", values.rows(), rows));
  return values;
}

std::optional<std::size_t> TrainTable::find(std::string_view name) const {
  const auto found = std::ranges::find(columns_, name, &TrainColumn::name);
  if (found == columns_.end()) return std::nullopt;
  return static_cast<std::size_t>(found - columns_.begin());
}

const TrainTable::Part& TrainTable::part_of(std::uint32_t row) const {
  return *std::prev(std::ranges::upper_bound(parts_, row, {}, &Part::first));
}

template <typename Read>
Status TrainTable::each(std::span<const std::uint32_t> rows, Read read) const {
  const Part* part = nullptr;
  for (std::size_t i = 0; i < rows.size(); ++i) {
    if (part == nullptr || rows[i] - part->first >= part->rows) part = &part_of(rows[i]);
    TRY(read(*part, rows[i] - part->first, i));
  }
  return {};
}

void TrainTable::keys(std::span<const std::uint32_t> rows, std::span<std::uint64_t> out) const {
  for (std::size_t i = 0; i < rows.size(); ++i) {
    const Part& part = part_of(rows[i]);
    out[i] = part.keys->as<std::uint64_t>()[rows[i] - part.first];
  }
}

Status TrainTable::doubles(std::size_t column, std::span<const std::uint32_t> rows,
                           std::span<double> out) const {
  if (columns_[column].kind == ColumnKind::Number) {
    return each(rows, [&](const Part& part, std::uint32_t row, std::size_t i) -> Status {
      out[i] = part.values[column]->as<double>()[row];
      return {};
    });
  }
  return each(rows, [&](const Part& part, std::uint32_t row, std::size_t i) -> Status {
    const std::int64_t value = part.values[column]->as<std::int64_t>()[row];
    out[i] = value == kMissingInteger ? std::numeric_limits<double>::quiet_NaN()
                                      : static_cast<double>(value);
    return {};
  });
}

Status TrainTable::floats(std::size_t column, std::span<const std::uint32_t> rows,
                          std::span<float> out) const {
  std::vector<double> values(rows.size());
  TRY(doubles(column, rows, values));
  std::ranges::transform(values, out.begin(), nearest_float);
  return {};
}

Status TrainTable::integers(std::size_t column, std::span<const std::uint32_t> rows,
                            std::span<std::int64_t> out) const {
  return each(rows, [&](const Part& part, std::uint32_t row, std::size_t i) -> Status {
    out[i] = part.values[column]->as<std::int64_t>()[row];
    return {};
  });
}

Status TrainTable::codes(std::size_t column, std::span<const std::uint32_t> rows,
                         std::span<std::int32_t> out) const {
  const auto known = static_cast<std::int64_t>(columns_[column].categories.size());
  return each(rows, [&](const Part& part, std::uint32_t row, std::size_t i) -> Status {
    out[i] = part.values[column]->as<std::int32_t>()[row];
    if (out[i] < -1 || out[i] >= known) {
      return fail(Code::InvalidArgument, fmt::format("column '{}' holds {}, which is no category",
                                                     columns_[column].name, out[i]));
    }
    return {};
  });
}

Result<std::string_view> TrainTable::text_at(const Part& part, std::size_t column,
                                             std::uint32_t row) const {
  const auto offsets = part.values[column]->as<std::int64_t>();
  const std::string_view all = part.texts[column]->bytes();
  const std::int64_t from = offsets[row];
  const std::int64_t to = offsets[row + 1];
  if (from < 0 || to < from || to > std::ssize(all)) {
    return fail(Code::InvalidArgument,
                fmt::format("column '{}' has a text that lies outside its file: row {} of its part",
                            columns_[column].name, row));
  }
  return all.substr(static_cast<std::size_t>(from), static_cast<std::size_t>(to - from));
}

Status TrainTable::texts(std::size_t column, std::span<const std::uint32_t> rows,
                         std::span<std::string_view> out) const {
  if (columns_[column].kind == ColumnKind::Category) {
    std::vector<std::int32_t> places(rows.size());
    TRY(codes(column, rows, places));
    std::ranges::transform(places, out.begin(), [&](std::int32_t place) -> std::string_view {
      if (place < 0) return {};
      return columns_[column].categories[static_cast<std::size_t>(place)];
    });
    return {};
  }
  return each(rows, [&](const Part& part, std::uint32_t row, std::size_t i) -> Status {
    out[i] = TRY(text_at(part, column, row));
    return {};
  });
}

std::size_t TrainTable::pixels_of(std::size_t column) const {
  std::size_t pixels = 1;
  for (const std::uint64_t extent : columns_[column].shape) pixels *= extent;
  return pixels;
}

Status TrainTable::pixels(std::size_t column, std::span<const std::uint32_t> rows,
                          std::span<std::uint8_t> out) const {
  const std::size_t size = pixels_of(column);
  return each(rows, [&](const Part& part, std::uint32_t row, std::size_t i) -> Status {
    const auto image = part.values[column]->as<std::uint8_t>().subspan(row * size, size);
    std::ranges::copy(image, out.begin() + static_cast<std::ptrdiff_t>(i * size));
    return {};
  });
}

std::vector<std::uint32_t> row_numbers(std::uint32_t first, std::uint32_t count) {
  std::vector<std::uint32_t> rows(count);
  std::iota(rows.begin(), rows.end(), first);
  return rows;
}

}  // namespace mayfly
