#include "runner/train/testing/snapshot.h"

#include <fmt/format.h>
#include <zlib.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <cstdlib>
#include <fstream>
#include <map>
#include <sstream>

#include "base/check.h"
#include "core/json_reader.h"
#include "runner/dataset/npy.h"

namespace mayfly {
namespace {

template <typename T>
void write_column(const Path& path, const std::vector<T>& values) {
  auto writer = NpyWriter::create(path, npy_type<T>(), {});
  CHECK(writer.has_value());
  CHECK(writer->append(std::span<const T>(values)).has_value());
  CHECK(writer->close().has_value());
}

template <typename T>
std::vector<T> chosen(const std::vector<T>& values, std::span<const std::uint32_t> rows) {
  std::vector<T> some;
  for (const std::uint32_t row : rows) some.push_back(values[row]);
  return some;
}

std::vector<std::string> categories_of(const std::vector<std::string>& values) {
  std::vector<std::string> found;
  for (const std::string& value : values)
    if (!value.empty() && std::ranges::find(found, value) == found.end()) found.push_back(value);
  return found;
}

void write_texts(const Path& folder, std::size_t column, const SnapshotColumn& some,
                 std::span<const std::uint32_t> rows) {
  const auto& all = std::get<std::vector<std::string>>(some.values);
  const std::vector<std::string> values = chosen(all, rows);
  if (some.kind == ColumnKind::Category) {
    const auto categories = categories_of(all);
    std::vector<std::int32_t> codes;
    for (const std::string& value : values) {
      const auto found = std::ranges::find(categories, value);
      codes.push_back(
          found == categories.end() ? -1 : static_cast<std::int32_t>(found - categories.begin()));
    }
    return write_column(folder / fmt::format("c{}.npy", column), codes);
  }
  std::vector<std::int64_t> offsets = {0};
  std::string bytes;
  for (const std::string& value : values) {
    bytes += value;
    offsets.push_back(std::ssize(bytes));
  }
  write_column(folder / fmt::format("c{}.offsets.npy", column), offsets);
  std::ofstream(folder / fmt::format("c{}.text", column)) << bytes;
}

std::string text_of(const Path& path) {
  std::string text;
  gzFile file = ::gzopen(path.c_str(), "rb");  // reads what is not compressed, too
  CHECK(file != nullptr);
  std::array<char, 65'536> piece;
  for (int got = 0; (got = ::gzread(file, piece.data(), piece.size())) > 0;)
    text.append(piece.data(), static_cast<std::size_t>(got));
  ::gzclose(file);
  return text;
}

std::uint32_t noise(std::uint32_t i) {
  i = (i ^ 61U) ^ (i >> 16);
  i *= 9;
  i = (i ^ (i >> 4)) * 0x27d4eb2dU;
  return i ^ (i >> 15);
}
double unit(std::uint32_t i) { return noise(i) / 4294967296.0; }

}  // namespace

std::size_t Snapshot::rows() const {
  return std::visit([](const auto& values) { return values.size(); }, columns.front().values);
}

void Snapshot::write(const Path& folder, std::uint32_t part, std::string_view split,
                     std::span<const std::uint32_t> rows) const {
  Json schema{{"columns", Json::array()}, {"split", Json::object()}};
  const Path place = folder / "parts" / fmt::format("{}", part) / split;
  CHECK(make_directories(place).has_value());
  for (std::size_t i = 0; i < columns.size(); ++i) {
    const SnapshotColumn& column = columns[i];
    Json described{{"name", column.name}, {"type", to_string(column.kind)}};
    const Path path = place / fmt::format("c{}.npy", i);
    if (const auto* numbers = std::get_if<std::vector<double>>(&column.values)) {
      write_column(path, chosen(*numbers, rows));
    } else if (const auto* integers = std::get_if<std::vector<std::int64_t>>(&column.values)) {
      write_column(path, chosen(*integers, rows));
    } else {
      write_texts(place, i, column, rows);
      if (column.kind == ColumnKind::Category)
        described["categories"] = categories_of(std::get<std::vector<std::string>>(column.values));
    }
    schema["columns"].push_back(described);
  }
  std::vector<std::uint64_t> keys(rows.begin(), rows.end());
  write_column(place / "row.npy", keys);
  std::ofstream(folder / "schema.json") << schema.dump();
}

void Snapshot::split(const Path& folder, std::uint32_t every) const {
  std::vector<std::uint32_t> train;
  std::vector<std::uint32_t> valid;
  for (std::uint32_t row = 0; row < rows(); ++row) {
    // Files are often sorted by class: rows are mixed by a multiplication (Knuth 1998, 6.4).
    (row * 2'654'435'761U >> 8 & 0xffff) % every == 0 ? valid.push_back(row) : train.push_back(row);
  }
  write(folder, 0, "train", train);
  write(folder, 0, "valid", valid);
}

namespace {

bool is_good(std::uint32_t row) { return unit(row * 8 + 4) < 0.5; }

// Less what its colour adds.
double score_of_row(std::uint32_t row) {
  return (row % 13 == 0 ? 50 : 100 * unit(row * 8)) + (is_good(row) ? 30 : 0) +
         20 * unit(row * 8 + 5);
}

}  // namespace

Snapshot every_type(std::uint32_t rows) {
  std::vector<double> amount;
  std::vector<std::int64_t> count;
  std::vector<std::int64_t> day;
  std::vector<std::string> colour;
  std::vector<std::string> words;
  std::vector<std::string> outcome;
  std::vector<double> price;
  std::vector<std::int64_t> shelf;
  for (std::uint32_t i = 0; i < rows; ++i) {
    amount.push_back(i % 13 == 0 ? NAN : 100 * unit(i * 8));
    count.push_back(i % 17 == 0 ? kNoInteger : static_cast<std::int64_t>(10 * unit(i * 8 + 1)));
    day.push_back(i % 19 == 0 ? kNoInteger : static_cast<std::int64_t>(unit(i * 8 + 2) * 1e12));
    colour.push_back(std::array{"red", "green", "blue", ""}[noise(i * 8 + 3) % 4]);
    words.push_back(
        fmt::format("it was {} {}", i % 3 == 0 ? "not" : "very", is_good(i) ? "good" : "bad"));
    const double score = score_of_row(i) + (colour.back() == "red" ? 40 : 0);
    outcome.push_back(i % 23 == 0 ? "" : score > 95 ? "yes" : "no");
    price.push_back(score * 1000);
    shelf.push_back(i % 50);
  }
  return {{{"amount", ColumnKind::Number, amount},
           {"count", ColumnKind::Integer, count},
           {"day", ColumnKind::Date, day},
           {"colour", ColumnKind::Category, colour},
           {"words", ColumnKind::Text, words},
           {"outcome", ColumnKind::Category, outcome},
           {"price", ColumnKind::Number, price},
           {"shelf", ColumnKind::Integer, shelf}}};
}

Snapshot load_sklearn(std::string_view file) {
  std::istringstream lines(text_of(Path(MAYFLY_SKLEARN_DATA) / file));
  std::string line;
  if (file != "digits.csv.gz") std::getline(lines, line);  // how many of what
  std::vector<std::vector<double>> values;
  std::vector<std::string> classes;
  while (std::getline(lines, line)) {
    std::vector<double> row;
    for (const char* at = line.c_str(); *at != '\0';) {
      char* end = nullptr;
      row.push_back(std::strtod(at, &end));
      at = *end == ',' ? end + 1 : end;
    }
    if (row.empty()) continue;
    classes.push_back(fmt::format("class {}", row.back()));
    row.pop_back();
    values.resize(row.size());
    for (std::size_t i = 0; i < row.size(); ++i) values[i].push_back(row[i]);
  }
  Snapshot snapshot;
  for (std::size_t i = 0; i < values.size(); ++i)
    snapshot.columns.push_back({fmt::format("x{}", i), ColumnKind::Number, values[i]});
  snapshot.columns.push_back({"class", ColumnKind::Category, classes});
  return snapshot;
}

const Path& train_runtime() {
  static const Path folder =
      std::filesystem::read_symlink("/proc/self/exe").parent_path() / ".." / "lib/mayfly/train";
  return folder;
}

}  // namespace mayfly
