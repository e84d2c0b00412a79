#pragma once
// Words seen lately and their tokens: text repeats its words, and merging them again is slow.

#include <algorithm>
#include <cstdint>
#include <cstring>
#include <memory>
#include <mutex>
#include <string_view>
#include <vector>

namespace reverie {

// A word has one place; a newcomer takes it.
class WordCache {
 public:
  // Appends the tokens of `word`, from here or from encode(word, tokens), which appends them.
  template <class Encode>
  void append(std::string_view word, std::vector<int32_t>& tokens, Encode&& encode) {
    if (word.size() > kBytes || word.empty()) return encode(word, tokens);
    Slot& slot = slot_of(word);
    if (std::string_view(slot.word, slot.bytes) == word) {
      tokens.insert(tokens.end(), slot.tokens, slot.tokens + slot.count);
      return;
    }
    const size_t first = tokens.size();
    encode(word, tokens);
    const size_t count = tokens.size() - first;
    if (count > kTokens) return;
    std::copy(word.begin(), word.end(), slot.word);
    std::copy(tokens.begin() + long(first), tokens.end(), slot.tokens);
    slot.bytes = uint8_t(word.size());
    slot.count = uint8_t(count);
  }

 private:
  static constexpr size_t kSlots = size_t(1) << 16, kBytes = 22, kTokens = 10;
  struct alignas(64) Slot {
    char word[kBytes];
    uint8_t bytes = 0;  // 0: free
    uint8_t count = 0;
    int32_t tokens[kTokens];
  };

  static uint64_t mix(uint64_t key) {
    key *= 0x9E3779B97F4A7C15u;
    return key ^ key >> 29;
  }
  Slot& slot_of(std::string_view word) {
    uint64_t parts[3] = {0, 0, word.size()};
    std::memcpy(parts, word.data(), std::min<size_t>(word.size(), 16));
    if (word.size() > 16) {
      uint64_t tail;
      std::memcpy(&tail, word.data() + word.size() - 8, 8);
      parts[2] ^= tail;
    }
    return slots_[mix(mix(mix(parts[0]) + parts[1]) + parts[2]) >> 20 & (kSlots - 1)];
  }

  std::vector<Slot> slots_ = std::vector<Slot>(kSlots);
};

// Caches lent to one encode() each, so that many threads may encode at once.
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
