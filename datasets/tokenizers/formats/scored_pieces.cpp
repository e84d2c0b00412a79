#include "core/error.h"
#include "datasets/tokenizers/formats/pretrained_spec.h"

namespace reverie {

SubwordSpec scored_spec(ScoredPieces from, const std::string& file) {
  SubwordSpec spec;
  spec.name = "sentencepiece";
  if (from.scores.size() != from.pieces.size() || from.kinds.size() != from.pieces.size())
    throw DataError(fmt::format("{}: {} tokens, {} scores and {} types; wanted equal numbers", file,
                                from.pieces.size(), from.scores.size(), from.kinds.size()));
  for (size_t i = 0; i < from.pieces.size(); ++i) {
    const auto id = int32_t(i);
    std::string& piece = from.pieces[i];
    spec.made_by_merging.push_back(from.kinds[i] == ScoredPieces::normal);
    switch (from.kinds[i]) {
      case ScoredPieces::normal:
        break;
      case ScoredPieces::unknown:
        spec.unknown = id;
        break;
      case ScoredPieces::control:
        if (from.reads_control && !piece.empty())
          spec.added.push_back({.id = id, .text = piece, .special = true});
        break;
      case ScoredPieces::user_defined:  // found whole, once spaces are written as pieces do
        if (!piece.empty()) spec.added.push_back({.id = id, .text = piece, .in_normalized = true});
        break;
      case ScoredPieces::byte:
        spec.byte_fallback = true;
        break;
      default:
        throw DataError(fmt::format(
            "{}: token {} is of type {}, which is not supported; wanted 1 (normal), 2 (unknown), 3 "
            "(control), 4 (user-defined) or 6 (byte)",
            file, id, int(from.kinds[i])));
    }
  }
  spec.tokens = std::move(from.pieces);
  spec.scores = std::move(from.scores);
  spec.fuse_unknown = true;
  Json steps = Json::array();
  if (from.space != " ")
    steps.push_back({{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", from.space}});
  if (from.space_before_text) steps.push_back({{"type", "Prepend"}, {"prepend", from.space}});
  spec.normalizer = {{"type", "Sequence"}, {"normalizers", std::move(steps)}};
  steps = Json::array();
  if (from.space != " ")
    steps.push_back({{"type", "Replace"}, {"pattern", {{"String", from.space}}}, {"content", " "}});
  if (spec.byte_fallback) steps.push_back({{"type", "ByteFallback"}});
  steps.push_back({{"type", "Fuse"}});
  if (from.space_before_text)
    steps.push_back({{"type", "Strip"}, {"content", " "}, {"start", 1}, {"stop", 0}});
  spec.decoder = {{"type", "Sequence"}, {"decoders", std::move(steps)}};
  return spec;
}

}  // namespace reverie
