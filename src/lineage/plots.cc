#include "lineage/plots.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <limits>

#include "lineage/html.h"

namespace mayfly {
namespace {

constexpr double kLabel = 200;  // what labels get on the left
constexpr double kPlot = 380;
constexpr double kLine = 22;
constexpr double kSide = 280;  // of a square plot
constexpr double kMargin = 46;
constexpr std::size_t kLabelBytes = 28;
constexpr const char* kBlue = "#2b6cb0";
constexpr const char* kGrey = "#a0aec0";

std::string open_svg(double width, double height, std::string_view title) {
  return fmt::format(
      R"(<svg xmlns="http://www.w3.org/2000/svg" role="img" width="{0:.0f}" height="{1:.0f}" viewBox="0 0 {0:.0f} {1:.0f}" font-size="12" font-family="sans-serif"><title>{2}</title>)",
      width, height, escape_html(title));
}

std::string words(double x, double y, std::string_view anchor, std::string_view text) {
  return fmt::format(R"(<text x="{:.1f}" y="{:.1f}" text-anchor="{}">{}</text>)", x, y, anchor,
                     escape_html(text, kLabelBytes));
}

std::string line(double x1, double y1, double x2, double y2, const char* colour) {
  return fmt::format(R"(<line x1="{:.1f}" y1="{:.1f}" x2="{:.1f}" y2="{:.1f}" stroke="{}"/>)", x1,
                     y1, x2, y2, colour);
}

std::string box(double x, double y, double width, double height, std::string_view fill) {
  return fmt::format(R"(<rect x="{:.1f}" y="{:.1f}" width="{:.1f}" height="{:.1f}" fill="{}"/>)", x,
                     y, width, height, fill);
}

std::string dot(double x, double y, double radius) {
  return fmt::format(R"(<circle cx="{:.1f}" cy="{:.1f}" r="{:.1f}" fill="{}"/>)", x, y, radius,
                     kBlue);
}

struct Range {
  double low = std::numeric_limits<double>::infinity();
  double high = -std::numeric_limits<double>::infinity();
  void add(double value) {
    low = std::min(low, value);
    high = std::max(high, value);
  }
  // Within 0 and 1; the middle where there is no extent. Halved, so that no difference overflows.
  double place(double value) const {
    const double extent = high / 2 - low / 2;
    return extent > 0 ? std::clamp((value / 2 - low / 2) / extent, 0.0, 1.0) : 0.5;
  }
};

std::string frame(const Range& x, const Range& y, std::string_view x_name,
                  std::string_view y_name) {
  const double bottom = kMargin / 2 + kSide;
  return line(kMargin, bottom, kMargin + kSide, bottom, kGrey) +
         line(kMargin, kMargin / 2, kMargin, bottom, kGrey) +
         words(kMargin, bottom + 15, "middle", fmt::format("{:.4g}", x.low)) +
         words(kMargin + kSide, bottom + 15, "middle", fmt::format("{:.4g}", x.high)) +
         words(kMargin + kSide / 2, bottom + 15, "middle", x_name) +
         words(kMargin - 4, bottom, "end", fmt::format("{:.3g}", y.low)) +
         words(kMargin - 4, kMargin / 2 + 10, "end", fmt::format("{:.3g}", y.high)) +
         words(kMargin + 4, kMargin / 2 - 6, "start", y_name);
}

}  // namespace

std::string plot_bars(const std::vector<Bar>& bars) {
  double most = 0;
  for (const Bar& bar : bars)
    if (std::isfinite(bar.value)) most = std::max(most, bar.value);
  std::string svg =
      open_svg(kLabel + kPlot + 60, kLine * static_cast<double>(bars.size()) + 4, "bars");
  double y = 0;
  for (const Bar& bar : bars) {
    if (!std::isfinite(bar.value) || bar.value < 0) continue;
    const double width = most > 0 ? kPlot * (bar.value / most) : 0;
    svg += words(kLabel - 6, y + 15, "end", bar.label) +
           box(kLabel, y + 3, width, kLine - 6, kBlue) +
           words(kLabel + width + 5, y + 15, "start", fmt::format("{:.3g}", bar.value));
    y += kLine;
  }
  return svg + "</svg>";
}

std::string plot_whiskers(const std::vector<Whisker>& whiskers) {
  Range range;
  std::vector<Whisker> shown;
  for (const Whisker& one : whiskers) {
    if (!std::isfinite(one.value) || !std::isfinite(one.low) || !std::isfinite(one.high)) continue;
    shown.push_back(one);
    for (const double value : {one.value, one.low, one.high}) range.add(value);
  }
  if (shown.empty()) return "";
  std::string svg =
      open_svg(kLabel + kPlot + 80, kLine * static_cast<double>(shown.size()) + 24, "intervals");
  double y = 0;
  for (const Whisker& one : shown) {
    const auto x = [&](double value) { return kLabel + kPlot * range.place(value); };
    svg += words(kLabel - 10, y + 15, "end", one.label) +
           line(x(one.low), y + 11, x(one.high), y + 11, kBlue) + dot(x(one.value), y + 11, 4) +
           words(x(one.high) + 8, y + 15, "start", fmt::format("{:.4g}", one.value));
    y += kLine;
  }
  svg += line(kLabel, y + 2, kLabel + kPlot, y + 2, kGrey) +
         words(kLabel, y + 18, "middle", fmt::format("{:.4g}", range.low)) +
         words(kLabel + kPlot, y + 18, "middle", fmt::format("{:.4g}", range.high));
  return svg + "</svg>";
}

std::string plot_curve(const std::vector<Point>& points, const std::string& x_name,
                       const std::string& y_name) {
  Range x;
  Range y;
  std::string path;
  for (const Point& point : points) {
    if (!std::isfinite(point.x) || !std::isfinite(point.y)) continue;
    x.add(point.x);
    y.add(point.y);
  }
  if (!(x.low <= x.high)) return "";
  for (const Point& point : points) {
    if (!std::isfinite(point.x) || !std::isfinite(point.y)) continue;
    path +=
        fmt::format("{}{:.1f},{:.1f}", path.empty() ? "" : " ", kMargin + kSide * x.place(point.x),
                    kMargin / 2 + kSide * (1 - y.place(point.y)));
  }
  return open_svg(kSide + 2 * kMargin, kSide + kMargin + 8, y_name) + frame(x, y, x_name, y_name) +
         fmt::format(R"(<polyline points="{}" fill="none" stroke="{}" stroke-width="1.5"/>)", path,
                     kBlue) +
         "</svg>";
}

std::string plot_calibration(const std::vector<Point>& points) {
  const Range whole{0, 1};
  double most = 0;
  for (const Point& point : points)
    if (std::isfinite(point.weight)) most = std::max(most, point.weight);
  const double bottom = kMargin / 2 + kSide;
  std::string svg = open_svg(kSide + 2 * kMargin, kSide + kMargin + 8, "calibration") +
                    frame(whole, whole, "said", "came true") +
                    line(kMargin, bottom, kMargin + kSide, kMargin / 2, kGrey);
  for (const Point& point : points) {
    if (!std::isfinite(point.x) || !std::isfinite(point.y) || !(point.weight > 0)) continue;
    svg += dot(kMargin + kSide * whole.place(point.x), bottom - kSide * whole.place(point.y),
               2 + 6 * std::sqrt(std::min(1.0, point.weight / most)));
  }
  return svg + "</svg>";
}

std::string plot_confusion(const std::vector<std::vector<std::uint64_t>>& counts,
                           const std::vector<std::string>& classes) {
  const auto size = static_cast<double>(counts.size());
  const double cell = std::clamp(420 / std::max(size, 1.0), 34.0, 90.0);
  const auto name = [&](std::size_t i) {
    return i < classes.size() ? classes[i] : fmt::format("class {}", i);
  };
  std::string svg = open_svg(kLabel + cell * size + 10, cell * size + 130, "confusion");
  for (std::size_t row = 0; row < counts.size(); ++row) {
    std::uint64_t sum = 0;
    for (const std::uint64_t count : counts[row]) sum += count;
    const double y = cell * static_cast<double>(row);
    svg += words(kLabel - 6, y + cell / 2 + 4, "end", name(row));
    for (std::size_t column = 0; column < counts[row].size(); ++column) {
      const std::uint64_t count = counts[row][column];
      const double share = sum > 0 ? static_cast<double>(count) / static_cast<double>(sum) : 0;
      const double x = kLabel + cell * static_cast<double>(column);
      svg += box(x, y, cell - 1, cell - 1, fmt::format("hsl(211,61%,{:.0f}%)", 97 - 55 * share)) +
             fmt::format(R"(<text x="{:.1f}" y="{:.1f}" text-anchor="middle" fill="{}">{}</text>)",
                         x + cell / 2, y + cell / 2 + 4, share > 0.5 ? "#fff" : "#1a202c", count);
    }
  }
  for (std::size_t column = 0; column < counts.size(); ++column) {
    const double x = kLabel + cell * (static_cast<double>(column) + 0.5);
    svg += fmt::format(
        R"svg(<text transform="translate({:.1f},{:.1f}) rotate(-45)" text-anchor="end">{}</text>)svg",
        x + 4, cell * size + 14, escape_html(name(column), kLabelBytes));
  }
  return svg + "</svg>";
}

}  // namespace mayfly
