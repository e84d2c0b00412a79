#include <cstring>

#include "core/error.h"
#include "core/files.h"
#include "datasets/tokenizers/formats/pretrained_spec.h"
#include "datasets/tokenizers/pipeline/decoder.h"

namespace reverie {

// The length of the longest piece (u32), then pieces to the end of the file: score (f32), length in
// bytes (i32), bytes. Spaces are spaces. The first three are unknown, begin and end of text.
SubwordSpec read_llama2c(const std::string& file) {
  const std::string bytes = read_file(file);
  size_t at = 0;
  const auto take = [&]<class T>(T& value) {
    if (bytes.size() - at < sizeof value)
      throw DataError(fmt::format(
          "{}: ends inside piece data at byte {}: truncated, or no tokenizer of llama2.c", file,
          at));
    std::memcpy(&value, bytes.data() + at, sizeof value);
    at += sizeof value;
  };
  uint32_t longest;
  take(longest);
  ScoredPieces pieces;
  pieces.space = " ";
  pieces.reads_control = false;  // "\n<s>\n" stands for nothing in a text
  while (at < bytes.size()) {
    float score;
    int32_t length;
    take(score);
    take(length);
    if (length < 0 || uint32_t(length) > longest || size_t(length) > bytes.size() - at)
      throw DataError(fmt::format(
          "{}: piece {} has {} bytes; the longest is said to have {}, and {} are left: truncated, "
          "or no tokenizer of llama2.c",
          file, pieces.pieces.size(), length, longest, bytes.size() - at));
    pieces.pieces.emplace_back(bytes.data() + at, size_t(length));
    at += size_t(length);
    const size_t id = pieces.pieces.size() - 1;
    pieces.scores.push_back(score);
    pieces.kinds.push_back(id == 0                               ? ScoredPieces::unknown
                           : id <= 2                             ? ScoredPieces::control
                           : byte_of_token(pieces.pieces.back()) ? ScoredPieces::byte
                                                                 : ScoredPieces::normal);
  }
  if (pieces.pieces.size() < 3)
    throw DataError(
        fmt::format("{}: {} pieces; wanted at least the unknown token, the beginning "
                    "and the end of a text",
                    file, pieces.pieces.size()));
  SubwordSpec spec = scored_spec(std::move(pieces), file);
  spec.begin_of_text = 1;
  spec.end_of_text = 2;
  spec.adds_begin_of_text = true;
  return spec;
}

}  // namespace reverie
