#pragma once
/// Values by names that the user chooses, as fields of a config.

#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "core/config.h"

namespace reverie {

/// {NAME: value, ...} in the order of the file.
template <class T>
class Named {
 public:
  T prototype{};  ///< a new value is a copy of it

  auto begin() const { return list_.begin(); }
  auto end() const { return list_.end(); }
  bool empty() const { return list_.empty(); }
  size_t size() const { return list_.size(); }
  void clear() { list_.clear(); }
  std::vector<std::string> names() const {
    std::vector<std::string> out;
    out.reserve(list_.size());
    for (const auto& [name, value] : list_) out.push_back(name);
    return out;
  }
  /// Null where there is none of that name.
  const T* find(std::string_view name) const {
    for (const auto& [other, value] : list_)
      if (other == name) return &value;
    return nullptr;
  }
  /// ConfigError where there is none; `path` is where this object stood.
  const T& at(std::string_view name, const std::string& path) const {
    if (const T* found = find(name)) return *found;
    refuse_missing_name(name, path, names());
  }
  /// The value of that name, a new one where there is none.
  T& operator[](const std::string& name) {
    for (auto& [other, value] : list_)
      if (other == name) return value;
    return list_.emplace_back(name, prototype).second;
  }

 private:
  std::vector<std::pair<std::string, T>> list_;
};

/// Describes `value` to `f` as the field `key`: `each(f, name, element)` describes an element as the
/// field `name`.
template <class T, class Each>
void describe_named(Fields& f, std::string_view key, Named<T>& value, std::string_view doc,
                    Each each) {
  class View final : public Entries {
   public:
    View(Named<T>& value, Each& each) : value_(value), each_(each) {}
    std::vector<std::string> names() const override { return value_.names(); }
    void clear() override { value_.clear(); }
    void describe(const std::string& name, Fields& f) override { each_(f, name, value_[name]); }
    void describe_new(const std::string& name, Fields& f) override {
      T value = value_.prototype;
      each_(f, name, value);
    }

   private:
    Named<T>& value_;
    Each& each_;
  };
  View view(value, each);
  f.entries(key, view, doc);
}

}  // namespace reverie
