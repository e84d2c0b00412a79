#pragma once
/// Tokens that are looked for in text as they are written, before anything else.

#include <cstdint>
#include <optional>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

namespace reverie {

struct AddedToken {
  int32_t id = 0;
  std::string text;            ///< what is looked for
  bool special = false;        ///< as SpecialTokens::as_text, it is not looked for
  bool in_normalized = false;  ///< looked for in normalized text, not in the text as it came
  bool takes_left = false, takes_right = false;  ///< white space beside it belongs to it
};

/// Finds the leftmost, and there the longest, of many texts.
class AddedTokenFinder {
 public:
  struct Found {
    size_t begin, end;  ///< bytes; with the white space that belongs to the token
    int32_t id;
  };

  void add(const AddedToken& token);
  /// The first at or behind `from`.
  std::optional<Found> find(std::string_view text, size_t from) const;

 private:
  static uint64_t edge(int32_t node, uint8_t byte) { return uint64_t(uint32_t(node)) << 8 | byte; }

  std::vector<AddedToken> tokens_;
  bool begins_[256] = {};  ///< some token begins with that byte
  std::unordered_map<uint64_t, int32_t> edges_;
  std::vector<int32_t> token_of_node_ = {-1};  ///< an index into tokens_
};

}  // namespace reverie
