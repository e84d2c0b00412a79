#pragma once
/// Components by name. Registered once (a duplicate name is an error that names both places), made
/// from a Config.
///
/// A shared library registers its components when it is loaded, through initialisers of static
/// variables:
///   static const bool registered = Registry<MemoryModule, int64_t>::instance().add<Mine,
///   MyOptions>("mine", "what it is");

#include <functional>
#include <map>
#include <memory>
#include <source_location>
#include <string>
#include <vector>

#include "core/config.h"
#include "core/error.h"

namespace reverie {

class RegistryBase {
 public:
  struct Entry {
    std::string doc;
    std::source_location where;
    std::function<std::unique_ptr<Fieldset>()> new_fieldset;  ///< default options
    std::function<std::unique_ptr<Fieldset>(const Fieldset&)> copy_fieldset;
  };
  explicit RegistryBase(std::string kind) : kind_(std::move(kind)) {}
  virtual ~RegistryBase() = default;
  const std::string& kind() const { return kind_; }  ///< "memory module", for messages
  std::vector<std::string> names() const;
  /// Throws ConfigError with the list of known names and the nearest one; `path` says where the name
  /// stood.
  const Entry& entry(const std::string& name, const std::string& path) const;

 protected:
  /// Throws InternalError for a duplicate; while a plugin is loading it returns false instead, and
  /// load_plugin() throws (an exception may not leave a shared library's initialisers).
  bool add_entry(const std::string& name, Entry);

 private:
  std::string kind_;
  std::map<std::string, Entry> entries_;
};

/// Options as the type that a registration gave them. InternalError for those of another component.
template <class Options>
const Options& options_as(const Fieldset& options) {
  const auto* own = dynamic_cast<const Options*>(&options);
  if (own == nullptr) throw InternalError("a component's options are of another component's type");
  return *own;
}

template <class Base, class... A>
class Registry final : public RegistryBase {
 public:
  using RegistryBase::RegistryBase;
  static Registry& instance();  ///< defined once per Base, beside it

  /// T is constructed as T(const Options&, A...). Options derives from Fieldset.
  template <class T, class Options>
  bool add(const std::string& name, const std::string& doc,
           std::source_location where = std::source_location::current()) {
    if (!add_entry(name, {doc, where, [] { return std::make_unique<Options>(); },
                          [](const Fieldset& options) {
                            return std::make_unique<Options>(options_as<Options>(options));
                          }}))
      return false;
    makers_[name] = [](const Fieldset& options, A... a) -> std::unique_ptr<Base> {
      return std::make_unique<T>(options_as<Options>(options), a...);
    };
    return true;
  }
  std::unique_ptr<Base> make(const Component& component, A... a) const;

 private:
  std::map<std::string, std::function<std::unique_ptr<Base>(const Fieldset&, A...)>> makers_;
};

/// A resolved component's own options. InternalError when it is not resolved.
const Fieldset& component_options(const Component&);
/// The same as the type that its registration gave them, or a base of it.
template <class Options>
const Options& component_options(const Component& component) {
  return options_as<Options>(component_options(component));
}

/// The component {"type": type, ...} of a JSON object that stood at `config`, checked and with every
/// default filled in.
Component resolve_component(const RegistryBase&, const Config& config);

template <class Base, class... A>
std::unique_ptr<Base> Registry<Base, A...>::make(const Component& component, A... a) const {
  entry(component.type, component.path);
  return makers_.at(component.type)(component_options(component), a...);
}

}  // namespace reverie
