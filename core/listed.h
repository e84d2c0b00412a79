#pragma once
/// An array of objects of one form, as a field of a config: [{...}, {...}].

#include <string>
#include <string_view>
#include <vector>

#include "core/config.h"

namespace reverie {

/// Entries that are an array in JSON: their names are their places, "0", "1", ...
struct ListedEntries : Entries {
  virtual size_t size() const = 0;
  virtual Fieldset& at(size_t place) = 0;
  /// Appends one with its defaults.
  virtual Fieldset& append() = 0;
};

/// Describes `list` to `f` as the field `key`; T is a Fieldset. It may be empty.
template <class T>
void describe_list(Fields& f, std::string_view key, std::vector<T>& list, std::string_view doc) {
  class View final : public ListedEntries {
   public:
    explicit View(std::vector<T>& list) : list_(list) {}
    size_t size() const override { return list_.size(); }
    Fieldset& at(size_t place) override { return list_.at(place); }
    Fieldset& append() override { return list_.emplace_back(); }
    void clear() override { list_.clear(); }
    std::vector<std::string> names() const override {
      std::vector<std::string> out;
      for (size_t i = 0; i < list_.size(); ++i) out.push_back(std::to_string(i));
      return out;
    }
    void describe(const std::string& name, Fields& f) override {
      f.object(name, at(std::stoul(name)), "");
    }
    void describe_new(const std::string& name, Fields& f) override {
      T value;
      f.object(name, value, "");
    }

   private:
    std::vector<T>& list_;
  };
  View view(list);
  f.entries(key, view, doc);
}

}  // namespace reverie
