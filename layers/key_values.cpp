#include "layers/key_values.h"

#include "autograd/ops/shape.h"
#include "core/error.h"
#include "core/safetensors.h"

namespace reverie {
namespace {

template <class F>
KeyValues each(const KeyValues& from, F&& f) {
  KeyValues to;
  to.base = from.base;
  for (const LayerKeyValues& layer : from.layers)
    to.layers.push_back({f(layer.key), f(layer.value)});
  return to;
}

std::string name_of(size_t layer, const char* what) {
  return fmt::format("layers.{}.{}", layer, what);
}

}  // namespace

KeyValues KeyValues::slice(int64_t begin, int64_t end) const {
  return each(*this, [=](const Variable& rows) { return reverie::slice(rows, 1, begin, end); });
}
KeyValues KeyValues::detach() const {
  return each(*this, [](const Variable& rows) { return rows.detach(); });
}
KeyValues KeyValues::append(const KeyValues& more) const {
  if (layers.empty()) return more;
  require(base.empty() || more.base.empty() || base == more.base,
          "keys and values of base {} cannot be continued with those of base {}", base, more.base);
  require(layers.size() == more.layers.size(),
          "keys and values of {} layers cannot be continued with those of {}", layers.size(),
          more.layers.size());
  KeyValues joined;
  joined.base = base.empty() ? more.base : base;
  for (size_t i = 0; i < layers.size(); ++i)
    joined.layers.push_back({concat({layers[i].key, more.layers[i].key}, 1),
                             concat({layers[i].value, more.layers[i].value}, 1)});
  return joined;
}

void KeyValues::save(const std::string& file) const {
  NamedTensors tensors;
  for (size_t i = 0; i < layers.size(); ++i) {
    tensors.emplace_back(name_of(i, "key"), layers[i].key.tensor());
    tensors.emplace_back(name_of(i, "value"), layers[i].value.tensor());
  }
  write_safetensors(file, tensors, {{"format", "reverie key values"}, {"base", base}});
}

KeyValues KeyValues::load(const std::string& file, const std::string& base) {
  const SafetensorsFile stored = read_safetensors(file);
  const auto format = stored.metadata.find("format"), made_by = stored.metadata.find("base");
  if (format == stored.metadata.end() || format->second != "reverie key values" ||
      made_by == stored.metadata.end() || stored.tensors.size() % 2 != 0)
    throw DataError(fmt::format("{} holds no keys and values that were saved here", file));
  require(base.empty() || made_by->second.empty() || made_by->second == base,
          "{} was made by base {}, not by this one ({}): other weights give "
          "other keys",
          file, made_by->second, base);
  KeyValues loaded;
  loaded.base = made_by->second;
  for (size_t i = 0; i < stored.tensors.size() / 2; ++i) {
    const Tensor &key = stored.at(name_of(i, "key")), &value = stored.at(name_of(i, "value"));
    const Shape& first = stored.at(name_of(0, "key")).shape();
    if (key.rank() != 3 || key.shape() != value.shape() || key.size(0) != first[0] ||
        key.size(1) != first[1])
      throw DataError(fmt::format("{}: layer {} has keys {} and values {}; wanted [B, T, C] alike",
                                  file, i, key, value));
    loaded.layers.push_back({Variable(key.clone()), Variable(value.clone())});
  }
  return loaded;
}

}  // namespace reverie
