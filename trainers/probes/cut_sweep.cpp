#include "trainers/probes/cut_sweep.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <set>

namespace reverie {
namespace {

// `count` places in 1 .. length - 1, evenly spread; the last is always length - 1, whose token
// alone is replaced. All of them where they fit.
std::vector<int64_t> spread_cuts(int64_t count, int64_t length, int64_t turn) {
  std::vector<int64_t> cuts;
  if (count >= length - 1) {
    for (int64_t cut = 1; cut < length; ++cut) cuts.push_back(cut);
    return cuts;
  }
  // Steps of the golden ratio fall between all earlier ones.
  const double shift = std::fmod(0.5 + 0.6180339887498949 * double(turn), 1.0);
  for (int64_t i = 0; i + 1 < count; ++i)
    cuts.push_back(1 + int64_t((double(i) + shift) / double(count - 1) * double(length - 2)));
  cuts.push_back(length - 1);
  return cuts;
}

}  // namespace

CutPlan plan_cuts(int64_t rows, int64_t length, int64_t most_forwards, int64_t turn) {
  const int64_t in_one = std::max<int64_t>(1, rows - 1);
  const int64_t count = most_forwards > 0 ? std::min(most_forwards * in_one, length - 1)
                                          : std::max<int64_t>(0, length - 1);
  const std::vector<int64_t> cuts = spread_cuts(count, length, turn);
  CutPlan plan;
  for (size_t next = 0; next < cuts.size();) {
    std::vector<int64_t> of_rows(static_cast<size_t>(rows), length);
    const auto whole = rows > 1 ? size_t(int64_t(plan.size()) % rows) : size_t(rows);
    for (size_t r = 0; r < of_rows.size() && next < cuts.size(); ++r)
      if (r != whole) of_rows[r] = cuts[next++];
    plan.push_back(std::move(of_rows));
  }
  // A row that stays whole in the only forward would never be asked.
  if (plan.size() == 1 && rows > 1) {
    plan.push_back(plan[0]);
    std::rotate(plan[1].begin(), plan[1].end() - 1, plan[1].end());
  }
  return plan;
}

int64_t cuts_in(const CutPlan& plan, int64_t length) {
  std::set<int64_t> cuts;
  for (const auto& rows : plan) cuts.insert(rows.begin(), rows.end());
  cuts.erase(length);
  return int64_t(cuts.size());
}

Tensor chosen_rows(const Tensor& tokens, const std::vector<int64_t>& rows) {
  Tensor some = Tensor::empty({int64_t(rows.size()), tokens.size(1)}, tokens.dtype());
  for (size_t i = 0; i < rows.size(); ++i) {
    Tensor place = some.slice(0, int64_t(i), int64_t(i) + 1);
    place.copy_from(tokens.slice(0, rows[i], rows[i] + 1));
  }
  return some;
}

Tensor with_other_suffixes(const Tensor& tokens, const Tensor& donors,
                           const std::vector<int64_t>& cuts, int64_t vocabulary) {
  Tensor other = tokens.clone();
  const int64_t length = tokens.size(1), all = donors.size(0), from_length = donors.size(1);
  int32_t* to = other.mutable_data<int32_t>();
  const int32_t* from = donors.data<int32_t>();
  // The last window of a split may be shorter than the others: it is read in a circle.
  const auto donated = [&](int64_t row, int64_t at) {
    return from[row * from_length + at % from_length];
  };
  for (int64_t r = 0; r < tokens.size(0); ++r) {
    const int64_t cut = cuts[size_t(r)];
    if (cut >= length) continue;
    int32_t* row = to + r * length;
    const int32_t before = row[cut];
    // The next rows come first: row r of `donors` may be this very text.
    int64_t donor = (r + 1) % all;
    for (int64_t i = 0; i < all && donated(donor, cut) == before; ++i)
      donor = (donor + 1) % all;
    for (int64_t at = cut; at < length; ++at) row[at] = donated(donor, at);
    if (row[cut] != before) continue;
    const int32_t* another =
        std::find_if(from, from + all * from_length, [&](int32_t t) { return t != before; });
    row[cut] = another != from + all * from_length ? *another : int32_t((before + 1) % vocabulary);
  }
  return other;
}

Tensor thinking_where(const Tensor& like, const Tensor& tokens, int32_t thought) {
  Tensor out = tokens.clone();
  auto* id = out.mutable_data<int32_t>();
  const auto* as = like.data<int32_t>();
  for (int64_t i = 0; i < out.numel(); ++i)
    if (as[i] == thought || id[i] == thought) id[i] = as[i];
  return out;
}

void sweep_cuts(const std::function<Tensor(const Tensor& tokens)>& hidden_of, const Tensor& tokens,
                const Tensor& base, const Tensor& donors, const CutPlan& plan, int64_t vocabulary,
                const std::string& site, HiddenMovement& found) {
  for (const auto& cuts : plan) {
    std::vector<ComparedRows> rows;
    for (int64_t r = 0; r < tokens.size(0); ++r) {
      const int64_t cut = cuts[size_t(r)];
      rows.push_back({r, 0, cut, r, 0,
                      cut < tokens.size(1) ? fmt::format("cut {}", cut)
                                           : std::string("other rows changed")});
    }
    found.compare(base, hidden_of(with_other_suffixes(tokens, donors, cuts, vocabulary)), rows,
                  site);
  }
}

}  // namespace reverie
