#pragma once
/// Words seen lately and their tokens: text repeats its words, and merging them again is slow.

#include <algorithm>
#include <array>
#include <bit>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string_view>
#include <utility>
#include <vector>

namespace reverie {

/// A word has two places side by side. A newcomer takes the second; being met again there moves it
/// to the first.
class WordCache {
  struct alignas(64) Slot {
    /// 22 bytes of the word, their count (0: free) and the tokens' count. Little-endian.
    uint64_t word[3];
    int32_t tokens[10];
  };

 public:
  /// A word and where it may be. Making one sends for what is there, so that several may be on their
  /// way from memory at once.
  struct Place {
    std::string_view word;
    uint64_t key[3];
    Slot* slots;  ///< two; null: the word is never kept
  };
  /// `readable`: bytes from the word's first on that may be read, at least its own.
  Place place(std::string_view word, size_t readable) {
    Place p{word, {0, 0, 0}, nullptr};
    const size_t bytes = word.size();
    if (bytes > kBytes || bytes == 0) return p;
    if (readable >= sizeof p.key) [[likely]] {
      std::memcpy(p.key, word.data(), sizeof p.key);
      for (size_t i = 0; i < 3; ++i) p.key[i] &= kMasks[bytes][i];
    } else {
      std::memcpy(p.key, word.data(), bytes);
    }
    p.key[2] |= uint64_t(bytes) << 48;
    p.slots = &slots_[2 * (mix(mix(mix(p.key[0]) + p.key[1]) + p.key[2]) >> 20 & (kPlaces - 1))];
    __builtin_prefetch(p.slots);
    __builtin_prefetch(p.slots + 1);
    return p;
  }

  /// Appends the tokens of `word`, from here or from encode(word, tokens), which appends them.
  template <class Encode>
  void append(const Place& p, std::vector<int32_t>& tokens, Encode&& encode) {
    if (!p.slots) return encode(p.word, tokens);
    if (!holds(p.slots[0], p)) {
      if (holds(p.slots[1], p))
        std::swap(p.slots[0], p.slots[1]);
      else
        return keep(p, tokens, encode);
    }
    const Slot& slot = p.slots[0];
    for (uint64_t i = 0, count = slot.word[2] >> 56; i < count; ++i)
      tokens.push_back(slot.tokens[i]);
  }
  template <class Encode>
  void append(std::string_view word, std::vector<int32_t>& tokens, Encode&& encode) {
    append(place(word, word.size()), tokens, encode);
  }

 private:
  static_assert(std::endian::native == std::endian::little);
  static constexpr size_t kPlaces = size_t(1) << 15, kBytes = 22, kTokens = 10;
  static constexpr uint64_t kName =
      (uint64_t(1) << 56) - 1;  ///< of word[2]: all but the tokens' count
  /// The bits of a key that a word of so many bytes fills.
  static constexpr auto kMasks = [] {
    std::array<std::array<uint64_t, 3>, kBytes + 1> masks{};
    for (size_t bytes = 0; bytes <= kBytes; ++bytes)
      for (size_t byte = 0; byte < bytes; ++byte)
        masks[bytes][byte / 8] |= uint64_t(0xff) << byte % 8 * 8;
    return masks;
  }();

  static uint64_t mix(uint64_t key) {
    key *= 0x9E3779B97F4A7C15u;
    return key ^ key >> 29;
  }
  static bool holds(const Slot& slot, const Place& p) {
    return slot.word[0] == p.key[0] && slot.word[1] == p.key[1] &&
           (slot.word[2] & kName) == p.key[2];
  }
  template <class Encode>
  [[gnu::noinline]] void keep(const Place& p, std::vector<int32_t>& tokens, Encode&& encode) {
    const size_t first = tokens.size();
    encode(p.word, tokens);
    const size_t count = tokens.size() - first;
    if (count > kTokens) return;
    Slot& slot = p.slots[1];
    std::copy(p.key, p.key + 3, slot.word);
    slot.word[2] |= uint64_t(count) << 56;
    std::copy(tokens.begin() + long(first), tokens.end(), slot.tokens);
  }

  std::vector<Slot> slots_ = std::vector<Slot>(2 * kPlaces);
};

/// Caches lent to one encode() each, so that many threads may encode at once.
class WordCaches {
 public:
  class Lease {
   public:
    explicit Lease(WordCaches& owner) : owner_(owner), cache_(owner.take()) {}
    ~Lease() { owner_.give_back(std::move(cache_)); }
    Lease(const Lease&) = delete;
    Lease& operator=(const Lease&) = delete;
    WordCache& operator*() { return *cache_; }

   private:
    WordCaches& owner_;
    std::unique_ptr<WordCache> cache_;
  };

 private:
  std::unique_ptr<WordCache> take() {
    {
      const std::lock_guard lock(mutex_);
      if (!free_.empty()) {
        auto cache = std::move(free_.back());
        free_.pop_back();
        return cache;
      }
    }
    return std::make_unique<WordCache>();
  }
  void give_back(std::unique_ptr<WordCache> cache) {
    const std::lock_guard lock(mutex_);
    free_.push_back(std::move(cache));
  }

  std::mutex mutex_;
  std::vector<std::unique_ptr<WordCache>> free_;
};

}  // namespace reverie
