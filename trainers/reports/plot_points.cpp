// Points and label places of plots: averaging, and keeping labels apart.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "trainers/reports/svg_plot.h"

namespace reverie {

std::vector<PlotPoint> bucket_means(const std::vector<PlotPoint>& points, double x_end,
                                    int buckets) {
  struct Sum {
    double x = 0, y = 0;
    int n = 0;
  };
  std::vector<Sum> sums(size_t(std::max(1, buckets)));
  for (const PlotPoint& p : points) {
    if (!std::isfinite(p.x) || !std::isfinite(p.y) || p.x < 0 || p.x > x_end) continue;
    // The last bucket holds its upper end, too.
    const auto at =
        std::min(sums.size() - 1, size_t(x_end > 0 ? p.x / x_end * double(sums.size()) : 0));
    sums[at].x += p.x;
    sums[at].y += p.y;
    ++sums[at].n;
  }
  std::vector<PlotPoint> means;
  for (const Sum& sum : sums)
    if (sum.n > 0) means.push_back({sum.x / sum.n, sum.y / sum.n});
  return means;
}

std::vector<double> spread_labels(const std::vector<double>& wanted, double distance, double low,
                                  double high) {
  const size_t n = wanted.size();
  if (n == 0) return {};
  distance = n > 1 ? std::min(distance, (high - low) / double(n - 1)) : distance;
  std::vector<size_t> order(n);
  std::iota(order.begin(), order.end(), size_t(0));
  std::stable_sort(order.begin(), order.end(),
                   [&](size_t a, size_t b) { return wanted[a] < wanted[b]; });
  // Groups of touching labels share their displacement (pool adjacent violators: the nearest
  // positions in least squares).
  struct Group {
    double sum = 0;  // of wanted[i] - distance * (place in the order)
    size_t count = 0;
    double position() const { return sum / double(count); }
  };
  std::vector<Group> groups;
  for (size_t place = 0; place < n; ++place) {
    groups.push_back({wanted[order[place]] - distance * double(place), 1});
    while (groups.size() > 1 && groups[groups.size() - 2].position() > groups.back().position()) {
      groups[groups.size() - 2].sum += groups.back().sum;
      groups[groups.size() - 2].count += groups.back().count;
      groups.pop_back();
    }
  }
  std::vector<double> placed(n);
  size_t place = 0;
  const double highest = high - distance * double(n - 1);
  for (const Group& group : groups)
    for (size_t i = 0; i < group.count; ++i, ++place)
      placed[order[place]] =
          std::clamp(group.position(), low, std::max(low, highest)) + distance * double(place);
  return placed;
}

}  // namespace reverie
