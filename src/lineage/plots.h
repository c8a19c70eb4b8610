// Plots of a model card as inline SVG: no script, no style sheet, nothing fetched. Labels may be
// anybody's words. Numbers that are not finite are left out.
#pragma once

#include <cstdint>
#include <string>
#include <vector>

namespace mayfly {

struct Bar {
  std::string label;
  double value = 0;  // from 0 on
};
std::string plot_bars(const std::vector<Bar>& bars);

// A point with its interval on one axis, among others of the same scale.
struct Whisker {
  std::string label;
  double value = 0, low = 0, high = 0;
};
std::string plot_whiskers(const std::vector<Whisker>& whiskers);

struct Point {
  double x = 0, y = 0;
  double weight = 1;  // how large it is drawn
};
std::string plot_curve(const std::vector<Point>& points, const std::string& x,
                       const std::string& y);
// Shares against shares, with the line where they are equal.
std::string plot_calibration(const std::vector<Point>& points);

// Rows by truth (down) and by what was said (across); square.
std::string plot_confusion(const std::vector<std::vector<std::uint64_t>>& counts,
                           const std::vector<std::string>& classes);

}  // namespace mayfly
