#include "runner/ingest/statistics.h"

#include <algorithm>
#include <cmath>
#include <utility>

#include "core/iso_date.h"
#include "core/reason.h"

namespace mayfly {
namespace {

constexpr std::string_view kSketchMagic = "MFSK1";
constexpr std::size_t kBins = 20;
constexpr std::size_t kShownTop = 10;
const std::vector<double> kShares = {0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99};

// Characters, not bytes.
double length_of(std::string_view text) {
  return static_cast<double>(std::ranges::count_if(
      text, [](char c) { return (static_cast<unsigned char>(c) & 0xc0U) != 0x80U; }));
}

bool is_whole(ColumnType type) { return type == ColumnType::Integer || type == ColumnType::Date; }

// How many values are in each twentieth of what lies between the least and the greatest.
Json histogram(const QuantileSketch& sketch) {
  std::vector<double> edges;
  const double width = (sketch.max() - sketch.min()) / static_cast<double>(kBins);
  if (!(width > 0) || !std::isfinite(width)) return Json::array({sketch.count()});
  for (std::size_t i = 1; i <= kBins; ++i)
    edges.push_back(i == kBins ? sketch.max() : sketch.min() + width * static_cast<double>(i));
  Json bins = Json::array();
  double before = 0;
  for (const double share : sketch.ranks(edges)) {
    bins.push_back(std::llround((share - before) * static_cast<double>(sketch.count())));
    before = share;
  }
  return bins;
}

}  // namespace

void ColumnStatistics::see_number(double value) {
  if (!std::isfinite(value)) {
    ++infinite_;
    return;
  }
  quantiles_.add(value);
  const double apart = value - mean_;
  mean_ += apart / static_cast<double>(quantiles_.count());
  squares_ += apart * (value - mean_);
}

void ColumnStatistics::see(const ColumnValues& values, const std::vector<bool>& good) {
  for (std::size_t row = 0; row < good.size(); ++row) {
    if (!good[row]) continue;
    if (values.missing(row)) {
      ++missing_;
    } else {
      ++count_;
      see_value(values, row);
    }
  }
}

void ColumnStatistics::see_value(const ColumnValues& values, std::size_t row) {
  switch (type_) {
    case ColumnType::Number: {
      std::string bytes;
      values.append_canonical(bytes, row);
      distinct_.add(bytes);
      return see_number(values.numbers[row]);
    }
    case ColumnType::Integer:
    case ColumnType::Date: {
      const std::int64_t value = values.integers[row];
      least_ = std::min(least_, value);
      greatest_ = std::max(greatest_, value);
      distinct_.add({reinterpret_cast<const char*>(&value), sizeof value});
      if (type_ == ColumnType::Integer) top_.add(std::to_string(value));
      return see_number(static_cast<double>(value));
    }
    case ColumnType::Category: {
      const auto code = static_cast<std::size_t>(values.codes[row]);
      if (code >= categories_.size()) categories_.resize(code + 1);
      ++categories_[code];
      return;
    }
    case ColumnType::Text:
      distinct_.add(values.texts[row]);
      top_.add(values.texts[row]);
      return see_number(length_of(values.texts[row]));
    case ColumnType::Image:
      distinct_.add(values.texts[row]);
      return;
  }
}

void ColumnStatistics::merge(const ColumnStatistics& other) {
  // Chan, Golub, LeVeque: moments of two sets as of one.
  const auto ours = static_cast<double>(quantiles_.count());
  const auto theirs = static_cast<double>(other.quantiles_.count());
  if (theirs > 0) {
    const double apart = other.mean_ - mean_;
    mean_ += apart * theirs / (ours + theirs);
    squares_ += other.squares_ + apart * apart * ours * theirs / (ours + theirs);
  }
  count_ += other.count_;
  missing_ += other.missing_;
  infinite_ += other.infinite_;
  least_ = std::min(least_, other.least_);
  greatest_ = std::max(greatest_, other.greatest_);
  quantiles_.merge(other.quantiles_);
  distinct_.merge(other.distinct_);
  top_.merge(other.top_);
  if (categories_.size() < other.categories_.size()) categories_.resize(other.categories_.size());
  for (std::size_t i = 0; i < other.categories_.size(); ++i) categories_[i] += other.categories_[i];
}

Json ColumnStatistics::top(const SchemaColumn& column) const {
  Json list = Json::array();
  if (type_ != ColumnType::Category) {
    for (const TopValues::Entry& entry : top_.top(kShownTop)) {
      // What is no more than a guess is not shown.
      if (entry.error * 2 < entry.count)
        list.push_back({{"value", entry.value}, {"count", entry.count - entry.error}});
    }
    return list;
  }
  std::vector<std::pair<std::uint64_t, std::size_t>> order;
  for (std::size_t i = 0; i < categories_.size() && i < column.categories.size(); ++i) {
    if (categories_[i] > 0) order.emplace_back(categories_[i], i);
  }
  std::ranges::sort(order, [](const auto& a, const auto& b) {
    return a.first != b.first ? a.first > b.first : a.second < b.second;
  });
  for (std::size_t i = 0; i < order.size() && i < kShownTop; ++i)
    list.push_back({{"value", column.categories[order[i].second]}, {"count", order[i].first}});
  return list;
}

Json ColumnStatistics::extreme(double edge, std::int64_t exact) const {
  return is_whole(type_) ? Json(exact) : Json(edge);
}

Json ColumnStatistics::describe(const SchemaColumn& column) const {
  Json json{
      {"name", column.name}, {"type", to_string(type_)}, {"count", count_}, {"missing", missing_}};
  if (type_ == ColumnType::Category) {
    json["distinct"] = std::ranges::count_if(categories_, [](auto n) { return n > 0; });
  } else {
    json["distinct"] = std::min(distinct_.estimate(), count_);
  }
  if (infinite_ > 0) json["infinite"] = infinite_;
  if (quantiles_.count() > 0) {
    json["min"] = extreme(quantiles_.min(), least_);
    json["max"] = extreme(quantiles_.max(), greatest_);
    json["mean"] = mean_;
    const auto n = static_cast<double>(quantiles_.count());
    json["deviation"] = n > 1 ? Json(std::sqrt(squares_ / (n - 1))) : Json();
    json["quantiles"] = quantiles_.quantiles(kShares);
    json["histogram"] = histogram(quantiles_);
  }
  if (type_ == ColumnType::Category || type_ == ColumnType::Text || type_ == ColumnType::Integer)
    json["top"] = top(column);
  return json;
}

void ColumnStatistics::append_to(std::string& out) const {
  append_value(out, static_cast<std::uint8_t>(type_));
  append_value(out, count_);
  append_value(out, missing_);
  append_value(out, infinite_);
  append_value(out, mean_);
  append_value(out, squares_);
  append_value(out, least_);
  append_value(out, greatest_);
  quantiles_.append_to(out);
  distinct_.append_to(out);
  top_.append_to(out);
  append_value(out, static_cast<std::uint32_t>(categories_.size()));
  for (const std::uint64_t count : categories_) append_value(out, count);
}

Result<ColumnStatistics> ColumnStatistics::parse(ByteReader& reader) {
  const auto type = TRY(reader.value<std::uint8_t>());
  const auto damaged = [] { return fail(Code::DataLoss, "sketches.bin is damaged"); };
  if (type > static_cast<std::uint8_t>(ColumnType::Image)) return damaged();
  ColumnStatistics found(static_cast<ColumnType>(type));
  found.count_ = TRY(reader.value<std::uint64_t>());
  found.missing_ = TRY(reader.value<std::uint64_t>());
  found.infinite_ = TRY(reader.value<std::uint64_t>());
  found.mean_ = TRY(reader.value<double>());
  found.squares_ = TRY(reader.value<double>());
  found.least_ = TRY(reader.value<std::int64_t>());
  found.greatest_ = TRY(reader.value<std::int64_t>());
  found.quantiles_ = TRY(QuantileSketch::parse(reader));
  found.distinct_ = TRY(DistinctSketch::parse(reader));
  found.top_ = TRY(TopValues::parse(reader));
  const auto categories = TRY(reader.value<std::uint32_t>());
  if (categories > kMaxCategories) return damaged();
  for (std::uint32_t i = 0; i < categories; ++i)
    found.categories_.push_back(TRY(reader.value<std::uint64_t>()));
  return found;
}

std::string sketches_of(const std::vector<ColumnStatistics>& columns) {
  std::string bytes(kSketchMagic);
  append_value(bytes, static_cast<std::uint32_t>(columns.size()));
  for (const ColumnStatistics& column : columns) column.append_to(bytes);
  return bytes;
}

Result<std::vector<ColumnStatistics>> parse_sketches(std::string_view bytes) {
  ByteReader reader(bytes);
  if (TRY(reader.bytes(kSketchMagic.size())) != kSketchMagic)
    return fail(Code::DataLoss, "sketches.bin is none");
  const auto columns = TRY(reader.value<std::uint32_t>());
  if (columns > kMaxColumns) return fail(Code::DataLoss, "sketches.bin has too many columns");
  std::vector<ColumnStatistics> found;
  for (std::uint32_t i = 0; i < columns; ++i) found.push_back(TRY(ColumnStatistics::parse(reader)));
  if (!reader.at_end()) return fail(Code::DataLoss, "sketches.bin goes on behind its end");
  return found;
}

}  // namespace mayfly
