#include "runner/train/parity_rows.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cmath>
#include <limits>
#include <optional>
#include <utility>

#include "runner/dataset/npy.h"
#include "runner/train/agreement.h"

namespace mayfly {
namespace {

constexpr std::size_t kRowsAsTheyAre = 1000;  // at least, of all
constexpr std::size_t kRowsOfTraining = 100;  // likewise
constexpr std::size_t kColumnsChanged = 500;  // that are made missing, unknown, extreme
constexpr std::uint64_t kPixelNoise = 8;
constexpr std::int64_t kMissingWhole = std::numeric_limits<std::int64_t>::min();
constexpr std::int64_t kCalendarEnd = 253'402'300'799'999;  // the year 9999, in ms
constexpr std::string_view kNeverSeen = "mayfly never saw this";
constexpr std::size_t kMostOrigins = 64 * 1024;  // bytes of rows.json

enum class Change : std::uint8_t { None, Perturb, Missing, Unknown, Extreme };

// How a row is made.
struct Recipe {
  bool valid = true;
  std::uint32_t row = 0;
  Change change = Change::None;
  std::optional<std::size_t> column = {};  // that is changed; none: all
  int side = 0;                            // of an extreme: -1, 0, 1
  bool touches(std::size_t one) const { return !column || *column == one; }
};

bool is_words(ColumnKind kind) { return kind == ColumnKind::Category || kind == ColumnKind::Text; }

Status write_json(const Path& path, const Json& json) {
  const Fd file = TRY(open_file(path, O_WRONLY | O_CREAT | O_EXCL, 0644));
  return write_all(file.get(), json.dump(-1, ' ', false, Json::error_handler_t::replace));
}

class ParityTable {
 public:
  explicit ParityTable(const ParitySources& sources) : sources_(sources) {
    add_originals();
    add_perturbed();
    add_missing();
    add_unknown();
    add_extremes();
  }

  Status write(const Path& folder) const {
    const Path part = folder / "parts" / "0" / kParitySplit;
    TRY(make_directories(part));
    Json schema{{"columns", Json::array()}};
    for (std::size_t i = 0; i < sources_.columns.size(); ++i) {
      const TrainColumn& column = columns()[sources_.columns[i]];
      Json described{{"name", column.name}, {"type", to_string(column.kind)}};
      if (column.kind == ColumnKind::Category) {
        described["categories"] = column.categories;
        if (std::ranges::find(column.categories, kNeverSeen) == column.categories.end())
          described["categories"].push_back(kNeverSeen);
      }
      if (column.kind == ColumnKind::Image) described["shape"] = column.shape;
      schema["columns"].push_back(std::move(described));
      TRY(write_column(part, i, sources_.columns[i]));
    }
    std::vector<std::uint64_t> keys(recipes_.size());
    for (std::size_t i = 0; i < keys.size(); ++i) keys[i] = i;
    TRY(write_values<std::uint64_t>(part / "row.npy", {}, keys));
    TRY(write_json(folder / "rows.json", ends_));
    return write_json(folder / "schema.json", schema);
  }

 private:
  const std::vector<TrainColumn>& columns() const { return sources_.train.columns(); }

  void mark(const char* origin) { ends_.push_back(Json::array({origin, recipes_.size()})); }

  void add_originals() {
    for (const std::uint32_t row : spread(sources_.valid_rows, kRowsAsTheyAre))
      recipes_.push_back({.valid = true, .row = row});
    mark("valid");
    const std::size_t wanted =
        std::max(kRowsOfTraining, kRowsAsTheyAre - std::min(kRowsAsTheyAre, recipes_.size()));
    for (const std::uint32_t row : spread(sources_.train_rows, wanted))
      recipes_.push_back({.valid = false, .row = row});
    mark("train");
    originals_ = recipes_.size();
  }

  // Of the originals in turn.
  void copy(Recipe change) {
    const Recipe& original = recipes_[copied_++ % originals_];
    change.valid = original.valid;
    change.row = original.row;
    recipes_.push_back(change);
  }

  void add_perturbed() {
    const std::size_t to = std::max(kRowsAsTheyAre, originals_ + kRowsAsTheyAre / 10);
    while (recipes_.size() < to) copy({.change = Change::Perturb});
    mark("perturbed");
  }

  template <typename Add>
  void each_column(Add add) {
    const std::size_t count = std::min(sources_.columns.size(), kColumnsChanged);
    for (std::size_t i = 0; i < count; ++i) {
      const std::size_t column = sources_.columns[i];
      add(column, columns()[column].kind);
    }
  }

  void add_missing() {
    each_column([this](std::size_t column, ColumnKind kind) {
      if (kind != ColumnKind::Image) copy({.change = Change::Missing, .column = column});
    });
    copy({.change = Change::Missing});
    mark("missing");
  }

  void add_unknown() {
    each_column([this](std::size_t column, ColumnKind kind) {
      if (is_words(kind)) copy({.change = Change::Unknown, .column = column});
    });
    mark("unknown");
  }

  void add_extremes() {
    each_column([this](std::size_t column, ColumnKind kind) {
      if (is_words(kind)) return;
      for (const int side : {-1, 0, 1})
        copy({.change = Change::Extreme, .column = column, .side = side});
    });
    mark("extreme");
  }

  // Values of the rows that recipes begin with. `read` is given a table, rows and where they go.
  template <typename T, typename Read>
  Result<std::vector<T>> originals_of(Read read) const {
    std::vector<T> values(recipes_.size());
    for (const bool valid : {true, false}) {
      std::vector<std::uint32_t> rows;
      std::vector<std::size_t> places;
      for (std::size_t i = 0; i < recipes_.size(); ++i) {
        if (recipes_[i].valid != valid) continue;
        rows.push_back(recipes_[i].row);
        places.push_back(i);
      }
      std::vector<T> some(rows.size());
      TRY(read(valid ? sources_.valid : sources_.train, rows, std::span<T>(some)));
      for (std::size_t i = 0; i < places.size(); ++i) values[places[i]] = some[i];
    }
    return values;
  }

  Status write_column(const Path& part, std::size_t number, std::size_t column) const {
    const Path path = part / fmt::format("c{}.npy", number);
    Noise noise(sources_.seed ^ (column + 1) * 0x9e37'79b9'7f4a'7c15);
    switch (columns()[column].kind) {
      case ColumnKind::Number:
        return write_numbers(path, column, noise);
      case ColumnKind::Integer:
      case ColumnKind::Date:
        return write_integers(path, column, noise);
      case ColumnKind::Category:
        return write_codes(path, column, noise);
      case ColumnKind::Text:
        return write_texts(part, number, column, noise);
      case ColumnKind::Image:
        break;
    }
    return write_images(path, column, noise);
  }

  Status write_numbers(const Path& path, std::size_t column, Noise& noise) const {
    auto values = TRY(originals_of<double>([column](const TrainTable& table, auto& rows, auto out) {
      return table.doubles(column, rows, out);
    }));
    const auto [low, high] = range_of(values);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const Recipe& recipe = recipes_[i];
      if (!recipe.touches(column)) continue;
      if (recipe.change == Change::Perturb) values[i] *= 1 + 0.05 * noise.real();
      if (recipe.change == Change::Missing) values[i] = std::numeric_limits<double>::quiet_NaN();
      if (recipe.change == Change::Extreme) values[i] = far_out(low, high, recipe.side);
    }
    return write_values<double>(path, {}, values);
  }

  Status write_integers(const Path& path, std::size_t column, Noise& noise) const {
    auto values =
        TRY(originals_of<std::int64_t>([column](const TrainTable& table, auto& rows, auto out) {
          return table.integers(column, rows, out);
        }));
    const bool date = columns()[column].kind == ColumnKind::Date;
    std::vector<double> known;
    for (const std::int64_t value : values)
      if (value != kMissingWhole) known.push_back(static_cast<double>(value));
    const auto [low, high] = range_of(known);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const Recipe& recipe = recipes_[i];
      if (!recipe.touches(column)) continue;
      const bool there = values[i] != kMissingWhole;
      if (recipe.change == Change::Perturb && there) {
        const double off = noise.real() * (date ? 3e9 : 0.05 * static_cast<double>(values[i]));
        values[i] += static_cast<std::int64_t>(off);
      } else if (recipe.change == Change::Missing) {
        values[i] = kMissingWhole;
      } else if (recipe.change == Change::Extreme) {
        constexpr double kMostWhole = 2147483647;  // that models with INT32 can take
        values[i] = date ? recipe.side * kCalendarEnd
                         : static_cast<std::int64_t>(std::clamp(far_out(low, high, recipe.side),
                                                                -kMostWhole, kMostWhole));
      }
    }
    return write_values<std::int64_t>(path, {}, values);
  }

  Status write_codes(const Path& path, std::size_t column, Noise& noise) const {
    auto values =
        TRY(originals_of<std::int32_t>([column](const TrainTable& table, auto& rows, auto out) {
          return table.codes(column, rows, out);
        }));
    const auto& categories = columns()[column].categories;
    const auto unknown =
        static_cast<std::int32_t>(std::ranges::find(categories, kNeverSeen) - categories.begin());
    for (std::size_t i = 0; i < values.size(); ++i) {
      const Recipe& recipe = recipes_[i];
      if (!recipe.touches(column)) continue;
      if (recipe.change == Change::Perturb) values[i] = values[noise.bits() % originals_];
      if (recipe.change == Change::Missing) values[i] = -1;
      if (recipe.change == Change::Unknown) values[i] = unknown;
    }
    return write_values<std::int32_t>(path, {}, values);
  }

  Status write_texts(const Path& part, std::size_t number, std::size_t column, Noise& noise) const {
    auto values =
        TRY(originals_of<std::string_view>([column](const TrainTable& table, auto& rows, auto out) {
          return table.texts(column, rows, out);
        }));
    std::vector<std::int64_t> offsets = {0};
    std::string bytes;
    for (std::size_t i = 0; i < values.size(); ++i) {
      const Recipe& recipe = recipes_[i];
      if (recipe.touches(column)) {
        if (recipe.change == Change::Perturb) values[i] = values[noise.bits() % originals_];
        if (recipe.change == Change::Missing) values[i] = {};
        if (recipe.change == Change::Unknown) values[i] = kNeverSeen;
      }
      bytes += values[i];
      offsets.push_back(std::ssize(bytes));
    }
    const Fd file =
        TRY(open_file(part / fmt::format("c{}.text", number), O_WRONLY | O_CREAT | O_EXCL, 0644));
    TRY(write_all(file.get(), bytes));
    return write_values<std::int64_t>(part / fmt::format("c{}.offsets.npy", number), {}, offsets);
  }

  // One at a time: they may be large.
  Status write_images(const Path& path, std::size_t column, Noise& noise) const {
    NpyWriter writer = TRY(NpyWriter::create(path, NpyType::UInt8, columns()[column].shape));
    std::vector<std::uint8_t> pixels(sources_.train.pixels_of(column));
    for (const Recipe& recipe : recipes_) {
      const TrainTable& table = recipe.valid ? sources_.valid : sources_.train;
      TRY(table.pixels(column, std::array{recipe.row}, pixels));
      if (recipe.touches(column) && recipe.change == Change::Perturb) {
        for (std::uint8_t& pixel : pixels) {
          const int off = static_cast<int>(noise.bits() % (2 * kPixelNoise + 1)) -
                          static_cast<int>(kPixelNoise);
          pixel = static_cast<std::uint8_t>(std::clamp(pixel + off, 0, 255));
        }
      }
      if (recipe.touches(column) && recipe.change == Change::Extreme)
        std::ranges::fill(pixels, static_cast<std::uint8_t>(recipe.side < 0   ? 0
                                                            : recipe.side > 0 ? 255
                                                                              : 128));
      TRY(writer.append(std::span<const std::uint8_t>(pixels)));
    }
    return writer.close();
  }

  template <typename T>
  static Status write_values(const Path& path, std::vector<std::uint64_t> row,
                             const std::vector<T>& values) {
    NpyWriter writer = TRY(NpyWriter::create(path, npy_type<T>(), std::move(row)));
    TRY(writer.append(std::span<const T>(values)));
    return writer.close();
  }

  static std::pair<double, double> range_of(const std::vector<double>& values) {
    double low = std::numeric_limits<double>::max();
    double high = std::numeric_limits<double>::lowest();
    for (const double value : values) {
      if (!std::isfinite(value)) continue;
      low = std::min(low, value);
      high = std::max(high, value);
    }
    return low > high ? std::pair(0.0, 0.0) : std::pair(low, high);
  }

  // Ten times as far out as the rows went; 0 in the middle.
  static double far_out(double low, double high, int side) {
    if (side == 0) return 0;
    constexpr double kMost = static_cast<double>(std::numeric_limits<float>::max()) / 100;
    const double span = std::clamp((high / 10 - low / 10) * 10, 1e-30, kMost / 10);
    return std::clamp((side < 0 ? low : high) + 10 * side * span, -kMost, kMost);
  }

  const ParitySources& sources_;
  std::vector<Recipe> recipes_;
  std::size_t originals_ = 0;
  std::size_t copied_ = 0;
  Json ends_ = Json::array();
};

}  // namespace

Status write_parity_rows(const ParitySources& sources, const Path& folder) {
  return ParityTable(sources).write(folder);
}

Result<ParityOrigins> ParityOrigins::read(const Path& folder, std::uint32_t rows) {
  const std::string text = TRY(read_file(folder / "rows.json", kMostOrigins));
  const Json json = TRY(parse_json(text, "rows.json"));
  ParityOrigins origins;
  for (const Json& one : json.is_array() ? json : Json::array()) {
    if (!one.is_array() || one.size() != 2 || !one[0].is_string() || !one[1].is_number_unsigned())
      return fail(Code::InvalidArgument, "rows.json says nothing");
    origins.ends_.emplace_back(one[0].get<std::string>(), one[1].get<std::size_t>());
  }
  if (origins.ends_.empty() || origins.ends_.back().second != rows)
    return fail(Code::InvalidArgument, "rows.json is of other rows");
  return origins;
}

const std::string& ParityOrigins::of(std::size_t row) const {
  return std::ranges::find_if(ends_, [row](const auto& one) { return row < one.second; })->first;
}

Json ParityOrigins::counts() const {
  Json json = Json::object();
  std::size_t before = 0;
  for (const auto& [name, end] : ends_) {
    json[name] = end - std::min(before, end);
    before = end;
  }
  return json;
}

}  // namespace mayfly
